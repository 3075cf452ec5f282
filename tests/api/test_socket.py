"""Over a real socket: each event arrives on its own, hanging up cancels, and a failure of plain text cuts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import uvicorn

from minivault.api.app import create_app
from minivault.settings import Settings
from tests.fakes import Bench, breaks_after, make_bench, says, until

ASK = {"prompt": "hi", "seed": 7}


class Server(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(bench: Bench) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Settings(rate_limit=""), service=bench.service)
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5)
    server = Server(config)
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        # A hundred requests at once may each wait long on a busy machine.
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=240) as client:
            yield client
    finally:
        server.should_exit = True
        await running


async def test_each_event_arrives_before_the_next_is_made() -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    async with serving(bench) as client, client.stream("POST", "/generate", json=ASK | {"stream": True}) as response:
        events = response.aiter_text()
        assert await anext(events) == 'data: {"token": "a", "index": 0}\n\n'
        bench.engine.release()
        rest = "".join([text async for text in events])
    assert rest.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/generate/stream", "/generate-stream", "/generate"])
async def test_hanging_up_in_a_stream_cancels_and_is_recorded_with_what_was_sent(path: str) -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 2
    async with serving(bench) as client:
        async with client.stream("POST", path, json=ASK | {"stream": True}) as response:
            read = b""
            async for part in response.aiter_raw():
                read += part
                if b"b" in read.replace(b'"token"', b""):
                    break
        await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "ab")
    assert bench.engine.streams[0].cancelled


async def test_hanging_up_while_a_whole_answer_is_made_cancels() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 2
    async with serving(bench) as client:
        asking = asyncio.ensure_future(client.post("/generate", json=ASK))
        await until(lambda: bench.engine.streams)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "")
    assert bench.engine.streams[0].cancelled


async def test_hanging_up_before_the_first_token_cancels() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 0
    async with serving(bench) as client:
        async with client.stream("POST", "/generate", json=ASK | {"stream": True}) as response:
            assert response.status_code == 200
        await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.outcome.completion_tokens) == ("cancelled", 0)


async def test_hanging_up_a_replay_cancels_it() -> None:
    bench = make_bench(says("abcdef"))
    async with serving(bench) as client:
        record = (await client.post("/generate", json=ASK)).json()["id"]
        bench.engine.hold_after = 2
        asking = asyncio.ensure_future(client.post(f"/vault/records/{record}/replay"))
        await until(lambda: len(bench.engine.streams) == 2)
        asking.cancel()
        await until(lambda: len(bench.ledger.outcomes) == 2)
    assert bench.ledger.outcomes[1].finish_reason == "cancelled"
    assert bench.engine.streams[1].cancelled


async def test_hanging_up_a_replay_that_waits_for_its_model_ends_it() -> None:
    bench = make_bench(says("abcdef"))
    async with serving(bench) as client:
        record = (await client.post("/generate", json=ASK)).json()["id"]
        bench.models.gate = asyncio.Event()
        asking = asyncio.ensure_future(client.post(f"/vault/records/{record}/replay"))
        await until(lambda: bench.models.waiting == 1)
        asking.cancel()
        await until(lambda: bench.models.gave_up == 1)
    assert len(bench.ledger.intents) == 1


async def test_a_failure_of_plain_text_cuts_the_connection() -> None:
    bench = make_bench(breaks_after("part"))
    async with serving(bench) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post("/generate-stream", json=ASK)
    assert bench.outcome.response_text == "part"


async def test_a_connection_serves_one_request_after_another() -> None:
    async with serving(make_bench()) as client:
        bodies = [(await client.post("/generate-stream", json=ASK)).text for _ in range(3)]
        assert len(set(bodies)) == 1
        assert (await client.post("/generate", json={"prompt": 5})).status_code == 422
        assert (await client.get("/livez")).status_code == 200


async def test_32_streams_at_once_equal_the_same_requests_one_at_a_time() -> None:
    bench = make_bench()
    async with serving(bench) as client:

        async def ask(seed: int) -> str:
            return (await client.post("/generate-stream", json={"prompt": f"p{seed}", "seed": seed})).text

        alone = [await ask(seed) for seed in range(32)]
        together = await asyncio.gather(*(ask(seed) for seed in range(32)))
    assert alone == list(together)
    assert len(bench.ledger.outcomes) == 64


async def test_a_hundred_random_hang_ups_leave_a_hundred_outcomes() -> None:
    bench = make_bench(says("abcdefgh" * 8))
    async with serving(bench) as client:

        async def leave_after(parts: int) -> None:
            async with client.stream("POST", "/generate/stream", json=ASK) as response:
                reading = response.aiter_raw()
                for _ in range(parts):
                    await anext(reading, None)

        await asyncio.gather(*(leave_after(turn % 7) for turn in range(100)))
        await until(lambda: len(bench.ledger.outcomes) == 100)
    assert len(bench.ledger.intents) == 100


async def test_a_shutdown_tells_open_streams_that_it_is_no_answer() -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    async with serving(bench) as client, client.stream("POST", "/generate", json=ASK | {"stream": True}) as response:
        draining = asyncio.ensure_future(bench.service.drain(0))
        body = (await response.aread()).decode()
        await draining
    assert '"code": "draining"' in body
    assert "[DONE]" not in body
    assert bench.outcome.finish_reason == "failed"
