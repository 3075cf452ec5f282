"""How calls end early: clients that leave, tasks that are killed, refusals, and a service that drains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.access.limits import Limits, Quota
from minivault.access.windows import MemoryWindows
from minivault.errors import ContextTooLong, Draining, LedgerUnavailable, ModelNotReady, Overloaded
from minivault.generation import FinishReason, GenerationRequest, SamplingParams
from minivault.service import ServiceLimits
from minivault.service.held import holding
from tests.access.clock import Clock
from tests.fakes import ByteTokenizer, make_bench, says, until
from tests.service.asking import CALLER, ask, collect, held

# -- leaving


async def test_a_client_that_leaves_is_recorded_as_cancelled_with_what_it_was_sent() -> None:
    bench = make_bench(says("abcdef"))
    generation, chunks = await held(bench, 3)
    read = [(await anext(chunks)).text for _ in range(3)]
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    generation.abandon()
    assert (await waiting).completion.finish_reason is FinishReason.CANCELLED
    assert (read, bench.outcome.response_text, bench.outcome.finish_reason) == (["a", "b", "c"], "abc", "cancelled")
    assert bench.engine.streams[0].cancelled


async def test_a_client_that_leaves_before_a_whole_answer_was_sent_nothing() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 3
    generation = await bench.service.open(ask(), CALLER)
    waiting = asyncio.ensure_future(generation.result())
    await until(lambda: bench.engine.streams[0].given == 3)
    generation.abandon()
    assert (await waiting).finish_reason is FinishReason.CANCELLED
    assert (bench.outcome.response_text, bench.outcome.completion_tokens) == ("", 0)


async def test_closing_the_iterator_early_cancels_and_records() -> None:
    bench = make_bench(says("abcdef"))
    stream = bench.service.stream(ask(), CALLER)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "ab")


async def test_a_killed_task_leaves_a_cancelled_outcome() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 2
    task = asyncio.ensure_future(collect(bench, ask()))
    await until(lambda: bench.engine.streams and bench.engine.streams[0].given == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.outcome.finish_reason == "cancelled"
    assert bench.engine.streams[0].cancelled


async def test_a_task_killed_while_the_intent_is_written_leaves_an_outcome_too() -> None:
    bench = make_bench()
    bench.ledger.hold = True
    task = asyncio.ensure_future(bench.service.generate(ask(), CALLER))
    await until(lambda: bench.ledger.intents)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.ledger.release()
    await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.engine.streams[0].cancelled) == ("cancelled", True)
    await bench.service.drain(60)


async def test_a_task_killed_while_the_outcome_is_written_does_not_write_a_second() -> None:
    bench = make_bench(says("answer", at_once=6))
    task = asyncio.ensure_future(collect(bench, ask()))
    await until(lambda: bench.engine.requests)
    bench.ledger.hold = True
    await until(lambda: bench.ledger.outcomes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.ledger.release()
    await bench.service.drain(60)
    assert bench.outcome.finish_reason == "stop"


async def left(quota: Quota) -> int:
    """What a key has of its tokens."""
    (await quota.reserve(1)).settle(0)
    return quota.verdicts["tokens"].remaining + 1


async def test_what_was_made_for_a_whole_answer_that_nobody_got_counts_for_its_key() -> None:
    bench = make_bench(says("abcdef"))
    bench.engine.hold_after = 3
    quota = Quota.of(Limits(MemoryWindows(Clock())), "a", "", "1000/day")
    generation = await bench.service.open(ask(), replace(CALLER, quota=quota))
    waiting = asyncio.ensure_future(generation.result())
    await until(lambda: bench.engine.streams[0].given == 3)
    generation.abandon()
    await waiting
    assert (bench.outcome.prompt_tokens, bench.outcome.completion_tokens) == (generation.prompt_tokens, 0)
    assert await left(quota) == 1000 - generation.prompt_tokens - 3


async def test_what_an_answer_of_a_batch_took_that_nobody_got_counts_for_its_key() -> None:
    bench = make_bench(says("abcdef"))
    quota = Quota.of(Limits(MemoryWindows(Clock())), "a", "", "1000/day")
    with holding():
        answer = await bench.service.generate(ask(), replace(CALLER, quota=quota))
    await until(lambda: bench.service.open_calls == 0)
    assert (bench.outcome.finish_reason, bench.outcome.completion_tokens) == ("cancelled", 0)
    assert await left(quota) == 1000 - answer.usage.prompt_tokens - 6


class Undecodable(ByteTokenizer):
    def decoder(self) -> Any:
        return self

    def push(self, ids: Sequence[int], /) -> str:
        raise RuntimeError("no such token")


async def test_an_answer_that_cannot_be_decoded_stops_the_engine() -> None:
    bench = make_bench(says("abcdef"))
    bench.model.tokenizer = Undecodable()
    with pytest.raises(RuntimeError, match="no such token"):
        await bench.service.generate(ask(), CALLER)
    assert (bench.outcome.finish_reason, bench.outcome.error) == ("failed", "internal error")
    assert bench.engine.streams[0].cancelled


# -- admission and the end


async def test_more_than_running_and_waiting_are_refused() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=1, max_waiting=1))
    bench.engine.hold_after = 0
    held = [await bench.service.open(ask(), CALLER) for _ in range(2)]
    with pytest.raises(Overloaded) as caught:
        await bench.service.open(ask(), CALLER)
    assert caught.value.retry_after
    for generation in held:
        generation.close()
    await bench.service.drain(60)
    assert len(bench.ledger.intents) == 2


async def test_one_key_leaves_a_place_for_another() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=2, max_waiting=4))
    bench.engine.hold_after = 0
    one, another, third = (Caller("local", api_key_id=name) for name in ("one", "another", "third"))
    held = [await bench.service.open(ask(), one) for _ in range(5)]
    with pytest.raises(Overloaded, match="kept for other clients") as caught:
        await bench.service.open(ask(), one)
    assert caught.value.retry_after
    held.append(await bench.service.open(ask(), another))
    with pytest.raises(Overloaded, match=r"is full\.$"):
        await bench.service.open(ask(), third)
    for generation in held:
        generation.close()
    await bench.service.drain(60)
    assert len(bench.ledger.outcomes) == 6


async def test_one_key_leaves_room_for_anothers_prompt() -> None:
    bench = make_bench(limits=ServiceLimits(max_waiting_tokens=16))  # a prompt is 3, and 2 are kept
    bench.engine.hold_after = 0
    one, another = (Caller("local", api_key_id=name) for name in ("one", "another"))
    held = [await bench.service.open(ask(), one) for _ in range(4)]
    with pytest.raises(Overloaded, match="Too many tokens"):
        await bench.service.open(ask(), one)
    held.append(await bench.service.open(ask(), another))
    for generation in held:
        generation.close()
    await bench.service.drain(60)
    assert len(bench.ledger.outcomes) == 5


async def test_a_place_is_free_again_after_any_end() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=1, max_waiting=0))
    with pytest.raises(ContextTooLong):
        await bench.service.generate(ask("x" * 2000), CALLER)
    bench.ledger.faults = ["intent"]
    with pytest.raises(LedgerUnavailable):
        await bench.service.generate(ask(), CALLER)
    bench.ledger.faults = ["outcome"]
    with pytest.raises(LedgerUnavailable):
        await bench.service.generate(ask(), CALLER)
    assert (await bench.service.generate(ask(), CALLER)).response


async def test_a_draining_service_refuses_new_work_and_lets_running_work_end() -> None:
    bench = make_bench(says("abc"))
    _, chunks = await held(bench, 1)
    first = await anext(chunks)
    draining = asyncio.ensure_future(bench.service.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await bench.service.open(ask(), CALLER)
    bench.engine.release()
    rest = [chunk async for chunk in chunks]
    await draining
    assert first.text + "".join(chunk.text for chunk in rest) == "abc"
    assert bench.outcome.finish_reason == "stop"


async def test_what_does_not_end_in_time_is_told_so_and_recorded_as_failed() -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    reading = asyncio.ensure_future(collect(bench, ask()))
    await until(lambda: bench.engine.streams and bench.engine.streams[0].given == 1)
    await bench.service.drain(0)
    with pytest.raises(Draining):
        await reading
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("failed", "a")


async def test_a_reader_that_does_not_read_does_not_hold_up_the_end() -> None:
    bench = make_bench(says("abc"), limits=ServiceLimits(abort_grace=0))
    await bench.service.open(ask(stream=True), CALLER)
    await bench.service.drain(0)
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "")


async def test_a_second_drain_waits_for_the_first() -> None:
    bench = make_bench(says("abc"))
    generation, _ = await held(bench, 1)
    drains = [asyncio.ensure_future(bench.service.drain(60)) for _ in range(2)]
    await asyncio.sleep(0)
    drains[0].cancel()
    generation.close()
    await drains[1]
    assert bench.outcome.finish_reason == "cancelled"


async def test_readiness_says_what_is_in_the_way() -> None:
    bench = make_bench()
    assert bench.service.not_ready_because() is None
    bench.ledger.writable = False
    assert "vault" in (bench.service.not_ready_because() or "")
    bench.ledger.writable = True
    bench.models.error = ModelNotReady("The model is still loading.", retry_after=1)
    assert "loading" in (bench.service.not_ready_because() or "")
    bench.models.error = None
    bench.engine.failure = ZeroDivisionError()
    assert "engine" in (bench.service.not_ready_because() or "")
    await bench.service.drain(0)
    assert "shutting down" in (bench.service.not_ready_because() or "")


async def test_a_broken_engine_refuses_before_anything_is_recorded() -> None:
    bench = make_bench()
    bench.engine.failure = ZeroDivisionError()
    with pytest.raises(ModelNotReady, match="engine has stopped"):
        await bench.service.generate(GenerationRequest(prompt="hi"), CALLER)
    assert not bench.ledger.intents


async def test_token_counters_equal_what_the_vault_holds() -> None:
    bench = make_bench(says("abcdef"))
    await bench.service.generate(ask(), CALLER)
    await bench.service.generate(ask(sampling=SamplingParams(stop=("d",))), CALLER)
    generation, chunks = await held(bench, 2)
    await anext(chunks)
    await anext(chunks)
    generation.close()
    bench.engine.hold_after = None
    bench.ledger.faults = ["outcome"]
    with pytest.raises(LedgerUnavailable):
        await bench.service.generate(ask(), CALLER)
    await bench.service.drain(60)
    counted = _samples(bench.service.metrics.render().decode())
    kept = bench.ledger.stats()
    labels = '{engine="scripted",model_name="fake"}'
    assert counted[f"vllm:prompt_tokens_total{labels}"] == kept["prompt_tokens"]
    assert counted[f"vllm:generation_tokens_total{labels}"] == kept["completion_tokens"]
    finished = '{engine="scripted",finished_reason="%s",model_name="fake"}'
    assert counted["vllm:request_success_total" + finished % "stop"] == 2
    assert counted["vllm:request_success_total" + finished % "cancelled"] == 1


def _samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
