"""What fails in a server behind the remote engine, and what the next server does about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minivault.errors import ContextTooLong, EngineFailed, InvalidRequest, Overloaded
from minivault.generation import FinishReason
from tests.engine.remote import ask, closed_port, engine_for, hear
from tests.engine.upstream import delta, events, garbles, hangs_up, refuses, says, serving, waits_for


async def test_a_server_that_would_ask_this_one_again_is_told_as_such() -> None:
    async with serving(refuses(508)) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="in a circle"):
            await hear(engine)


async def test_a_request_goes_to_another_server_when_the_first_cannot_be_reached() -> None:
    async with serving(says("here")) as upstream, engine_for(await closed_port(), upstream) as engine:
        assert (await hear(engine)).text == "here"
        first, second = engine.stats().upstreams
        assert (first.healthy, first.failures, first.retried) == (False, 1, 1)
        assert (second.healthy, second.failures, second.requests) == (True, 0, 1)


@pytest.mark.parametrize(
    "failure",
    [
        hangs_up,
        garbles,
        refuses(500),
        refuses(401),
        refuses(404),
        refuses(429),
        refuses(503),
        events(done=False),
        events({"error": {"message": "out of memory"}}),
        events("{not json"),
        events("[1]"),
    ],
    ids=["hangs up", "garbled", "500", "401", "404", "429", "503", "ends early", "an error", "no JSON", "no object"],
)
async def test_a_failure_before_the_first_token_is_made_good_by_another_server(failure: Any) -> None:
    async with serving(failure) as bad, serving(says("good")) as good, engine_for(bad, good) as engine:
        assert (await hear(engine)).text == "good"
    assert (len(bad.bodies), len(good.bodies)) == (1, 1)


@pytest.mark.parametrize(
    "failure",
    [events(delta({"content": "some"}), done=False), events(delta({"content": "some"}), {"error": {"message": "x"}})],
    ids=["ends early", "an error"],
)
async def test_a_failure_after_the_first_token_is_never_retried(failure: Any) -> None:
    async with serving(failure) as bad, serving() as good, engine_for(bad, good) as engine:
        stream, words = ask(engine)
        first = await anext(stream)
        with pytest.raises(EngineFailed):
            await anext(stream)
    assert (words.decoder().push(first.token_ids), good.bodies) == ("some", [])


async def test_a_request_that_is_refused_is_not_tried_elsewhere_and_nothing_is_echoed() -> None:
    async with serving(refuses(400)) as bad, serving() as good, engine_for(bad, good) as engine:
        with pytest.raises(InvalidRequest, match="refuses this request") as caught:
            await hear(engine)
    assert "secret" not in caught.value.message
    assert good.bodies == []


async def test_a_prompt_that_is_too_long_there_is_told_as_such() -> None:
    error = {"error": {"code": 400, "message": "the request exceeds the available context size"}}
    async with serving(refuses(400, error)) as upstream, engine_for(upstream) as engine:
        with pytest.raises(ContextTooLong):
            await hear(engine)


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says() -> None:
    busy = refuses(503, headers=["retry-after: 1700"])
    async with serving(busy) as upstream, engine_for(upstream) as engine:
        for _ in range(2):
            with pytest.raises(Overloaded) as caught:
                await hear(engine)
            assert caught.value.retry_after == pytest.approx(1700, abs=300)
    assert len(upstream.bodies) == 1


async def test_a_refusal_is_known_before_the_answer_begins() -> None:
    async with serving(refuses(503)) as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        with pytest.raises(Overloaded):
            await stream.accepted()


async def test_no_token_in_time_goes_to_another_server() -> None:
    slow = waits_for(asyncio.Event(), says())
    patience = {"first_token_timeout": 2.0}
    async with serving(slow) as late, serving(says("quick")) as good, engine_for(late, good, **patience) as engine:
        assert (await hear(engine)).text == "quick"
        await late.hung_up.wait()
        assert not engine.stats().upstreams[0].healthy


async def test_comments_alone_do_not_count_as_a_token() -> None:
    slow = waits_for(asyncio.Event(), says(), after=[delta({"role": "assistant", "content": ""})])
    async with serving(slow) as upstream, engine_for(upstream, first_token_timeout=0.2) as engine:
        with pytest.raises(EngineFailed, match="in time"):
            await hear(engine)


async def test_an_answer_that_stalls_is_given_up() -> None:
    stalls = waits_for(asyncio.Event(), says(), after=[delta({"content": "a"})])
    async with serving(stalls) as upstream, engine_for(upstream, token_timeout=0.2) as engine:
        stream, _ = ask(engine)
        assert (await anext(stream)).token_ids
        with pytest.raises(EngineFailed, match="in time"):
            await anext(stream)
        await upstream.hung_up.wait()


async def test_cancelling_closes_the_connection() -> None:
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": "a"})])
    async with serving(endless) as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        await anext(stream)
        stream.cancel()
        stream.cancel()
        assert (await anext(stream)).finish_reason is FinishReason.CANCELLED
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        async with asyncio.timeout(120):
            await upstream.hung_up.wait()
        assert engine.stats().running == 0


async def test_one_that_is_cancelled_at_once_ends_too() -> None:
    async with serving() as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        stream.cancel()
        assert [step.finish_reason async for step in stream] == [FinishReason.CANCELLED]
    assert upstream.bodies == []


async def test_the_pieces_of_a_call_are_tokens_that_came_in_time() -> None:
    call = delta({"tool_calls": [{"index": 0, "function": {"name": "add"}}]})
    stalls = waits_for(asyncio.Event(), says(), after=[call])
    patience = {"first_token_timeout": 60.0, "token_timeout": 0.2}
    async with serving(stalls) as upstream, engine_for(upstream, **patience) as engine:
        with pytest.raises(EngineFailed, match="in time"):
            await hear(engine)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_requests_cancelled_at_any_moment_leave_every_place_free() -> None:
    """With connections that are not made yet too: those were lost to the pool of httpx 0.28 for good."""
    async with serving(says("here")) as upstream, engine_for(upstream, max_in_flight=4) as engine:
        for moment in range(60):
            streams = [ask(engine)[0] for _ in range(8)]
            for _ in range(moment % 30):
                await asyncio.sleep(0)
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*(stream.task for stream in streams), return_exceptions=True)
        assert engine.stats().running == engine.stats().waiting == 0
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(hear(engine) for _ in range(4)))
    assert [answer.text for answer in answers] == ["here"] * 4
