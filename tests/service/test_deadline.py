"""How long a request may take: it ends, waiting or running, with an error and an outcome."""

from __future__ import annotations

import asyncio

import pytest

from minivault.access.caller import Caller
from minivault.errors import DeadlineExceeded, Overloaded
from minivault.generation import GenerationRequest
from minivault.service import ServiceLimits
from minivault.service.deadline import least, remaining, too_late, within
from tests.fakes import make_bench, says, until
from tests.service.asking import TIMEOUTS, collect

CALLER = Caller("test")


def ask(**fields: object) -> GenerationRequest:
    return GenerationRequest(prompt="hi", **fields)  # type: ignore[arg-type]


async def test_a_stream_that_takes_too_long_ends_as_failed_with_what_was_sent() -> None:
    for seconds in TIMEOUTS:
        bench = make_bench(says("abcdef"))
        bench.engine.hold_after = 2
        with pytest.raises(DeadlineExceeded, match=f"{seconds:g} seconds"):
            await collect(bench, ask(timeout=seconds))
        if [outcome.response_text for outcome in bench.ledger.outcomes] == ["ab"]:
            break
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("failed", "ab")
    assert f"{seconds:g} seconds" in (bench.outcome.error or "")
    assert bench.engine.streams[0].cancelled


async def test_a_whole_answer_that_waits_too_long_is_an_error_with_an_outcome() -> None:
    for seconds in TIMEOUTS:
        bench = make_bench()
        bench.engine.hold_after = 0
        with pytest.raises(DeadlineExceeded):
            await bench.service.generate(ask(timeout=seconds), CALLER)
        if bench.engine.streams:
            break
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("failed", "")
    assert bench.models.leases == 0


async def test_a_request_whose_model_loads_for_too_long_is_refused_without_a_record() -> None:
    bench = make_bench()
    bench.models.gate = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await bench.service.generate(ask(timeout=0.05), CALLER)
    assert not bench.ledger.intents
    bench.models.gate.set()
    await bench.service.generate(ask(), CALLER)


async def test_an_answer_in_time_is_whole() -> None:
    bench = make_bench(says("abc"))
    completion = await bench.service.generate(ask(timeout=60), CALLER)
    assert completion.response == "abc"


async def test_the_server_and_the_caller_set_limits_too() -> None:
    bench = make_bench(limits=ServiceLimits(request_timeout=0.05))
    bench.engine.hold_after = 0
    with pytest.raises(DeadlineExceeded, match=r"0\.05 seconds"):
        await bench.service.generate(ask(timeout=60), CALLER)
    with pytest.raises(DeadlineExceeded, match=r"0\.04 seconds"):
        await bench.service.generate(ask(), Caller("test", timeout=0.04))


async def test_prompts_that_wait_are_bounded_in_tokens_and_free_their_place_when_they_begin() -> None:
    bench = make_bench(says("abc"), limits=ServiceLimits(max_waiting_tokens=5))
    bench.engine.hold_after = 0
    first = asyncio.ensure_future(bench.service.generate(ask(), CALLER))
    await until(lambda: bench.engine.streams)
    with pytest.raises(Overloaded, match="tokens"):
        await bench.service.generate(ask(), CALLER)
    bench.engine.release()
    await first
    await bench.service.generate(ask(), CALLER)
    assert bench.models.leases == 0


def test_the_tightest_limit_counts_and_none_is_none() -> None:
    assert least(None, 0, 3.0, 2.0) == 2.0
    assert least(None, None, 0) is None
    assert remaining(None, 0, 10) is None
    assert remaining(2.0, 0, 500_000_000) == 1.5
    assert remaining(2.0, 0, 5_000_000_000) == 0.0


async def test_a_timeout_of_somebody_else_is_passed_on() -> None:
    with pytest.raises(TimeoutError):
        async with within(60):
            raise TimeoutError


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1e-6, "0.000001"), (1e-300, "0.000001"), (0.05, "0.05"), (2.5, "2.5"), (30.0, "30"), (86_400.0, "86400")],
)
def test_how_long_it_had_is_told_in_plain_figures(seconds: float, said: str) -> None:
    assert too_late(seconds).message == f"The request took longer than the {said} seconds that it had."
