"""Clients that time out, cancel, retry or are refused, with the real packages over a real socket.

The server has one place and its engine follows a script, so a place that was not given back is a 503 for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from minivault.engine.engine import EngineRequest, TokenStep
from minivault.errors import ModelNotReady
from tests.clients.packages import PACKAGES, RETRYING, Package, each_package
from tests.clients.scripted import Scripted, scripted
from tests.fakes import breaks_after, says

SAID = "Yes, it is."
PATIENCE = (0.3, 1.5, 6.0, 24.0)
"""Seconds that a client waits for an answer which is held: the least that suffices on this machine now."""


def held(server: Scripted, after: int) -> None:
    """Each answer stops for good after so many pieces."""
    server.bench.engine.hold_after = after


def patiences(server: Scripted, after: int, met: Callable[[], bool] = lambda: True) -> Iterator[float]:
    """Ever longer times for a client, until one was over where the answers are held, and none on the way there."""
    for patience in PATIENCE:
        server.forget()
        held(server, after)
        yield patience
        server.ended()
        if [stream.given for stream in server.bench.engine.streams[:1]] == [after] and met():
            return
    raise AssertionError("no patience was long enough")


def works_again(server: Scripted, package: Package) -> bool:
    """The next request finds the place free, and is answered."""
    server.bench.engine.hold_after = None
    with package.client(server.url) as client:
        return package.text(package.ask(client)) == SAID


async def _read(asking: Any) -> None:
    answer = await asking
    async for _ in answer:
        pass


# -- timeouts ----------------------------------------------------------------------------------------------------------


@each_package
def test_a_timeout_in_a_whole_answer_is_a_cancelled_call_and_frees_its_place(
    server: Scripted, package: Package
) -> None:
    for patience in patiences(server, after=3):
        with package.client(server.url, timeout=patience) as client, pytest.raises(package.timed_out):
            package.ask(client)
    assert server.ended() == ["cancelled"]
    assert server.bench.outcome.response_text == "", "nothing had been sent"
    assert works_again(server, package)


@each_package
def test_a_timeout_in_a_stream_is_a_cancelled_call_and_frees_its_place(server: Scripted, package: Package) -> None:
    got: list[str] = []
    for patience in patiences(server, after=3, met=lambda: "".join(got) == SAID[:3]):
        got.clear()
        with package.client(server.url, timeout=patience) as client, pytest.raises(package.timed_out):
            got.extend(package.piece(event) for event in package.ask(client, stream=True))
    assert server.ended() == ["cancelled"]
    assert "".join(got) == server.bench.outcome.response_text == SAID[:3]
    assert works_again(server, package)


@each_package
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_timeout_of_an_async_client_is_a_cancelled_call(
    server: Scripted, package: Package, stream: bool
) -> None:
    for patience in patiences(server, after=3):
        async with package.async_client(server.url, timeout=patience) as client:
            with pytest.raises(package.timed_out):
                await _read(package.ask(client, stream=stream))
    assert server.ended() == ["cancelled"]
    assert works_again(server, package)


# -- cancellation ------------------------------------------------------------------------------------------------------


@each_package
def test_leaving_a_stream_records_what_was_sent_and_frees_its_place(server: Scripted, package: Package) -> None:
    held(server, after=3)
    got = ""
    with package.client(server.url) as client:
        stream = package.ask(client, stream=True)
        for event in stream:
            got += package.piece(event)
            if len(got) == 3:
                break
        stream.close()
    assert server.ended() == ["cancelled"]
    assert server.bench.outcome.response_text == got
    assert works_again(server, package)


@each_package
async def test_a_cancelled_task_in_a_stream_is_a_cancelled_call(server: Scripted, package: Package) -> None:
    held(server, after=3)
    got: list[str] = []
    begun = asyncio.Event()

    async def read(client: Any) -> None:
        async for event in await package.ask(client, stream=True):
            got.append(package.piece(event))
            if "".join(got) == SAID[:3]:
                begun.set()

    async with package.async_client(server.url) as client:
        await _cancelled(asyncio.ensure_future(read(client)), begun)
    assert server.ended() == ["cancelled"]
    assert server.bench.outcome.response_text == "".join(got)
    assert works_again(server, package)


@each_package
async def test_a_cancelled_task_in_a_whole_answer_is_a_cancelled_call(server: Scripted, package: Package) -> None:
    held(server, after=3)
    begun = asyncio.Event()
    async with package.async_client(server.url) as client:
        asking = asyncio.ensure_future(package.ask(client))
        await asyncio.to_thread(server.until, lambda: server.bench.engine.streams)
        begun.set()
        await _cancelled(asking, begun)
    assert server.ended() == ["cancelled"]
    assert works_again(server, package)


async def _cancelled(task: asyncio.Future[Any], when: asyncio.Event) -> None:
    await asyncio.wait_for(when.wait(), 120)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- retries -----------------------------------------------------------------------------------------------------------


@RETRYING
def test_a_retry_after_a_refusal_is_one_call_on_the_record(server: Scripted, package: Package) -> None:
    server.bench.ledger.faults = ["intent"]
    with package.client(server.url, retries=2) as client:
        assert package.text(package.ask(client)) == SAID
    assert server.ended() == ["stop"]


@RETRYING
def test_a_retry_after_a_timeout_leaves_the_first_cancelled_and_one_answer(server: Scripted, package: Package) -> None:
    def holds_the_first(request: EngineRequest) -> Iterable[TokenStep]:
        server.bench.engine.hold_after = None
        return says(SAID)(request)

    for patience in patiences(server, after=0, met=lambda: len(server.bench.ledger.intents) == 2):
        server.bench.engine.answer = holds_the_first
        with package.client(server.url, timeout=patience, retries=4) as client:
            assert package.text(package.ask(client)) == SAID
    assert server.ended() == ["cancelled", "stop"]


@RETRYING
def test_what_was_answered_is_not_asked_again(server: Scripted, package: Package) -> None:
    with package.client(server.url, retries=4) as client:
        answer = "".join(package.piece(event) for event in package.ask(client, stream=True))
        assert answer == package.text(package.ask(client)) == SAID
    assert server.ended() == ["stop", "stop"]


# -- errors ------------------------------------------------------------------------------------------------------------


def not_ready(server: Scripted) -> None:
    server.bench.models.error = ModelNotReady("The model is still loading.")


REFUSALS: list[tuple[int, dict[str, Any], Callable[[Scripted], None] | None]] = [
    (404, {"model": "other"}, None),
    (422, {"temperature": -1}, None),
    (503, {}, not_ready),
]


@each_package
@pytest.mark.parametrize(("status", "fields", "arrange"), REFUSALS, ids=["404", "422", "503"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_refusals_arrive_as_the_packages_own_errors(
    server: Scripted, package: Package, status: int, fields: dict[str, Any], arrange: Any, stream: bool
) -> None:
    if arrange is not None:
        arrange(server)
    with package.client(server.url) as client, pytest.raises(package.errors[status]) as caught:
        list(package.ask(client, stream=stream, **fields))
    async with package.async_client(server.url) as client:
        with pytest.raises(package.errors[status]) as caught_async:
            await _read(package.ask(client, stream=stream, **fields))
    assert caught.value.status_code == caught_async.value.status_code == status
    assert server.ended() == [], "a refusal is no call"


@each_package
def test_a_full_server_arrives_as_the_packages_own_error(server: Scripted, package: Package) -> None:
    held(server, after=0)
    with package.client(server.url) as client:
        taken = PACKAGES[0].client(server.url)
        stream = PACKAGES[0].ask(taken, stream=True)
        with pytest.raises(package.errors[503]) as caught:
            package.ask(client)
        stream.close()
        taken.close()
    assert caught.value.status_code == 503
    assert server.ended() == ["cancelled"]


@each_package
def test_a_limit_arrives_as_the_packages_own_error(package: Package) -> None:
    with scripted(rate_limit="1/hour") as server, package.client(server.url) as client:
        assert package.text(package.ask(client))
        with pytest.raises(package.errors[429]) as caught:
            package.ask(client)
        assert caught.value.status_code == 429
        assert len(server.ended()) == 1


@each_package
def test_a_stream_that_breaks_raises_and_never_ends_as_if_it_were_whole(server: Scripted, package: Package) -> None:
    server.bench.engine.answer = breaks_after("part")
    got: list[str] = []
    with package.client(server.url) as client, pytest.raises(package.errors["stream"]):
        got.extend(package.piece(event) for event in package.ask(client, stream=True))
    assert "".join(got) == "part"
    assert server.ended() == ["failed"]
