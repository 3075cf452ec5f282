"""Which server behind the remote engine is asked, how many requests it may have, and who looks after its health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from minivault.engine.remote.upstream import Upstream, retry_after
from minivault.errors import EngineFailed, Overloaded
from minivault.generation import FinishReason
from minivault.models.remote_config import RemoteConfig
from tests.engine.remote import ask, closed_port, engine_for, hear
from tests.engine.upstream import hangs_up, says, serving, waits_for
from tests.fakes import until


async def test_the_server_with_the_least_to_do_is_asked() -> None:
    gate = asyncio.Event()
    held = waits_for(gate, says("late"))
    async with serving(held) as one, serving(held) as other, engine_for(one, other) as engine:
        running = [asyncio.ensure_future(hear(engine)) for _ in range(6)]
        await until(lambda: len(one.bodies) + len(other.bodies) == 6)
        assert (len(one.bodies), len(other.bodies)) == (3, 3)
        gate.set()
        assert {heard.text for heard in await asyncio.gather(*running)} == {"late"}


async def test_a_server_never_has_more_requests_than_it_may() -> None:
    gate = asyncio.Event()
    async with serving(waits_for(gate, says("done"))) as upstream, engine_for(upstream, max_in_flight=2) as engine:
        running = [asyncio.ensure_future(hear(engine)) for _ in range(5)]
        await until(lambda: len(upstream.bodies) == 2 and engine.stats().waiting == 3)
        assert engine.stats().running == 2
        gate.set()
        assert len(await asyncio.gather(*running)) == 5
        assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_one_that_waits_can_be_cancelled() -> None:
    gate = asyncio.Event()
    async with serving(waits_for(gate, says("done"))) as upstream, engine_for(upstream, max_in_flight=1) as engine:
        first = asyncio.ensure_future(hear(engine))
        await until(lambda: len(upstream.bodies) == 1)
        waiting, _ = ask(engine)
        await until(lambda: engine.stats().waiting == 1)
        waiting.cancel()
        assert [step.finish_reason async for step in waiting] == [FinishReason.CANCELLED]
        assert engine.stats().waiting == 0
        gate.set()
        assert (await first).text == "done"


async def test_a_full_queue_refuses() -> None:
    gate = asyncio.Event()
    held = waits_for(gate, says())
    async with serving(held) as upstream, engine_for(upstream, max_in_flight=1, max_waiting=1) as engine:
        streams = [ask(engine)[0]]
        await until(lambda: engine.stats().running == 1)
        streams.append(ask(engine)[0])
        await until(lambda: engine.stats().waiting == 1)
        with pytest.raises(Overloaded, match="queue"):
            ask(engine)
        for stream in streams:
            stream.cancel()


async def test_a_server_that_is_seen_to_be_well_again_gets_requests_again() -> None:
    async with serving(hangs_up, says("back")) as upstream, engine_for(upstream) as engine:
        upstream.models_status = 503
        await engine.check_health()
        with pytest.raises(Overloaded, match="No upstream server can be reached"):
            await hear(engine)
        upstream.models_status = 200
        await engine.check_health()
        upstream.script.pop(0)
        assert (await hear(engine)).text == "back"


async def test_no_more_of_a_list_of_models_is_read_than_a_bound() -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1 << 16
            yield bytes(1 << 16)

    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=endless()))
    async with httpx2.AsyncClient(transport=transport) as client:
        upstream = Upstream("http://up/v1", RemoteConfig(("http://up/v1",), "theirs"), client, lambda: 0.0)
        await upstream.check()
    assert upstream.healthy
    assert given < 2 << 20


async def test_health_is_looked_after_in_the_background() -> None:
    async with serving() as upstream, engine_for(upstream, health_interval=0.1) as engine:
        engine.watch()
        await until(lambda: len([asked for asked in upstream.asked if asked.method == "GET"]) >= 2)


async def test_servers_that_were_never_asked_are_known_to_be_down_once_somebody_wants_to_know() -> None:
    async with engine_for(await closed_port()) as engine:
        await until(lambda: not engine.stats().upstreams[0].healthy)


async def test_what_goes_wrong_in_one_look_at_health_ends_none_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: Any) -> str:
        raise ValueError

    async with serving() as upstream, engine_for(upstream, health_interval=0.1) as engine:
        with monkeypatch.context() as broken:
            broken.setattr("minivault.engine.remote.upstream._whole", breaks)
            engine.watch()
            await until(lambda: not engine.stats().upstreams[0].healthy)
        await until(lambda: engine.stats().upstreams[0].healthy)


async def test_closing_ends_what_runs() -> None:
    async with serving(waits_for(asyncio.Event(), says())) as upstream:
        async with engine_for(upstream) as engine:
            stream, _ = ask(engine)
            await until(lambda: len(upstream.bodies) == 1)
        assert [step.finish_reason async for step in stream] == [FinishReason.CANCELLED]
        with pytest.raises(EngineFailed):
            ask(engine)


@pytest.mark.parametrize(("header", "seconds"), [(None, 1), ("5", 5), ("0", 1), ("99999", 3600), ("soon", 1)])
def test_retry_after_is_kept_within_bounds(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds
