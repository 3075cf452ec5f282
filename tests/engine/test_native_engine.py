from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivault.engine.engine import Engine, EngineRequest, TokenStep
from minivault.engine.native import sizes
from minivault.engine.native.engine import NativeEngine, Stream
from minivault.engine.native.runner import RunnerOptions
from minivault.engine.native.sequence import Batch, SampledTokens
from minivault.errors import ContextTooLong, EngineFailed, InvalidRequest, Overloaded
from minivault.generation import FinishReason, SamplingParams, TokenLogprob
from minivault.models.architecture import Architecture
from tests.engine import checkpoints
from tests.engine.fakes import CONTEXT, EOS, INFO, VOCAB, FakeRunner, params, reference

ENDLESS = params(CONTEXT, ignore_eos=True)


def request(prompt: list[int], sampling: SamplingParams | None = None, **given: str) -> EngineRequest:
    return EngineRequest("request", tuple(prompt), sampling or params(), EOS, **given)  # type: ignore[arg-type]


@dataclass
class Gate:
    """Holds the engine thread before each step until the test lets it through."""

    reached: queue.SimpleQueue[Batch] = field(default_factory=queue.SimpleQueue)
    passes: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, batch: Batch) -> None:
        self.reached.put(list(batch))
        self.passes.acquire()

    async def next_step(self) -> Batch:
        """Wait until the engine stands before a step."""
        return await asyncio.to_thread(self.reached.get)

    def open(self) -> None:
        """Let all steps through from now on."""
        self.passes.release(1_000_000)


@pytest.fixture
async def make_engine() -> AsyncIterator[Callable[..., NativeEngine]]:
    engines: list[NativeEngine] = []

    def make(runner: FakeRunner | None = None, **given: Any) -> NativeEngine:
        engines.append(NativeEngine(runner or FakeRunner(), INFO, **given))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


MakeEngine = Callable[..., NativeEngine]


async def read(stream: Stream) -> tuple[list[int], TokenStep]:
    """All tokens, and the last step."""
    steps = [step async for step in stream]
    assert [step.finish_reason for step in steps[:-1]] == [None] * (len(steps) - 1)
    return [token_id for step in steps for token_id in step.token_ids], steps[-1]


async def test_streams_the_tokens_of_each_sequence(make_engine: MakeEngine) -> None:
    engine: Engine = make_engine()
    prompts = [[n % VOCAB, 1, 2] * (1 + n % 5) for n in range(20)]
    streams = [engine.submit(request(prompt)) for prompt in prompts]
    for prompt, stream in zip(prompts, streams, strict=True):
        assert isinstance(stream, Stream)
        tokens, last = await read(stream)
        assert (tokens, last.finish_reason) == reference(prompt, params())


async def test_a_slow_reader_finds_what_piled_up_as_one_step(make_engine: MakeEngine) -> None:
    engine = make_engine()
    slow = engine.submit(request([1], params(6, ignore_eos=True, logprobs=0)))
    await read(engine.submit(request([2], params(30, ignore_eos=True))))
    steps = [step async for step in slow]
    expected, reason = reference([1], params(6, ignore_eos=True))
    assert [(list(step.token_ids), step.finish_reason) for step in steps] == [(expected, reason)]
    assert steps[0].logprobs == tuple(TokenLogprob(token_id, -0.5) for token_id in expected)


async def test_a_stream_that_has_ended_stays_ended(make_engine: MakeEngine) -> None:
    stream = make_engine().submit(request([1]))
    await read(stream)
    assert [step async for step in stream] == []
    stream.cancel()


@pytest.mark.parametrize("speculation", [True, False])
async def test_drafts_are_made_only_where_the_runner_wants_them(make_engine: MakeEngine, speculation: bool) -> None:
    engine = make_engine(FakeRunner(choose=lambda prefix, _: 5, speculation=speculation))
    tokens, _ = await read(engine.submit(request([5], params(30))))
    assert tokens == [5] * 30
    assert (engine.stats().spec_decode_num_accepted_tokens > 0) is speculation


async def test_one_message_per_step_serves_all_sequences(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate))
    first = engine.submit(request([1], params(3, ignore_eos=True)))
    await gate.next_step()
    others = [engine.submit(request([n], params(3, ignore_eos=True))) for n in range(8)]
    calls = 0
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon_threadsafe

    def counting(*args: object, **given: object) -> object:
        nonlocal calls
        calls += threading.current_thread().name == "minivault-engine"
        return call_soon(*args, **given)  # type: ignore[arg-type]

    loop.call_soon_threadsafe = counting  # type: ignore[method-assign,assignment]
    gate.open()
    for stream in (first, *others):
        await read(stream)
    assert calls == 4


async def test_cancel_takes_effect_at_the_next_step(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate))
    gone, stays = (engine.submit(request([n] * 3, ENDLESS)) for n in (1, 2))
    first = await gate.next_step()
    gone.cancel()
    gone.cancel()
    gate.passes.release()
    assert first[0].sequence not in [item.sequence for item in await gate.next_step()]
    tokens, last = await read(gone)
    assert (last.finish_reason, last.error) == (FinishReason.CANCELLED, None)
    expected, _ = reference([1] * 3, ENDLESS)
    assert tokens == expected[: len(tokens)]
    gate.open()
    assert (await read(stays))[0] == reference([2] * 3, ENDLESS)[0]


async def test_cancel_in_the_middle_of_prefill_leaves_nothing_behind(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate), max_batch_tokens=4)
    stream = engine.submit(request([1] * 40))
    await gate.next_step()
    stream.cancel()
    gate.open()
    tokens, last = await read(stream)
    assert (tokens, last.finish_reason) == ([], FinishReason.CANCELLED)
    assert (engine.stats().running, engine.stats().kv_cache_usage) == (0, 0)


async def test_what_cannot_run_is_refused_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(num_blocks=4))
    with pytest.raises(ContextTooLong, match=f"context of {CONTEXT}"):
        engine.submit(request([1] * CONTEXT))
    with pytest.raises(ContextTooLong, match="KV cache holds 16"):
        engine.submit(request([1] * 15, params(9)))
    with pytest.raises(InvalidRequest, match="at least 1 token"):
        engine.submit(request([]))
    for bad in (-1, VOCAB):
        with pytest.raises(InvalidRequest, match=f"from 0 to {VOCAB - 1}"):
            engine.submit(request([1, bad]))
    assert engine.stats().waiting == 0


async def test_an_engine_keeps_the_models_context_and_refuses_what_its_memory_cannot_hold() -> None:
    """As it is loaded: a small KV cache must not pass for a short context, or answers end there unsaid."""
    arch = checkpoints.opened("llama-gqa")[0]
    loaded = checkpoints.engine("llama-gqa", RunnerOptions("f32", 1, kv_cache_memory=_bytes_of(arch, 64)))
    try:
        assert (loaded.info.context_length, loaded.info.kv_cache_tokens) == (arch.context_length, 64)
        with pytest.raises(ContextTooLong, match=r"KV cache holds 64.*kv_cache_memory") as refused:
            loaded.submit(request([1] * 5, params(61, ignore_eos=True)))
        assert refused.value.param == "max_tokens"
        with pytest.raises(ContextTooLong, match="KV cache holds 64"):
            loaded.submit(request([1] * 5, params(arch.context_length * 8, ignore_eos=True)))
        tokens, last = await read(loaded.submit(request([1] * 5, params(60, ignore_eos=True))))
        assert (len(tokens), last.finish_reason) == (60, FinishReason.LENGTH)
    finally:
        await loaded.close()


def _bytes_of(arch: Architecture, tokens: int) -> int:
    return sizes.block_bytes(arch, "f32") * (tokens // sizes.BLOCK)


async def test_a_full_queue_refuses_until_one_has_ended(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate), max_running=1, max_waiting=1)
    streams = [engine.submit(request([n])) for n in (1, 2)]
    with pytest.raises(Overloaded):
        engine.submit(request([3]))
    gate.open()
    for stream in streams:
        await read(stream)
    assert (await read(engine.submit(request([3]))))[0] == reference([3], params())[0]


async def test_what_is_pooled_takes_no_room_and_needs_none(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate), max_running=1, max_waiting=1)
    pooled = [engine.submit(request([n], params(1), pooling="mean")) for n in range(9)]
    streams = [engine.submit(request([n])) for n in (1, 2)]
    pooled.append(engine.submit(request([9], params(1), pooling="mean")))
    with pytest.raises(Overloaded):
        engine.submit(request([3]))
    gate.open()
    assert {(await read(stream))[1].finish_reason for stream in pooled} <= {FinishReason.LENGTH, FinishReason.STOP}
    assert [(await read(stream))[0] for stream in streams] == [reference([n], params())[0] for n in (1, 2)]


async def test_what_is_cancelled_leaves_its_room_before_the_step_ends(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate), max_running=1, max_waiting=0)
    gone = engine.submit(request([1], ENDLESS))
    await gate.next_step()
    gone.cancel()
    stream = engine.submit(request([2]))
    gate.open()
    assert (await read(stream))[0] == reference([2], params())[0]
    assert (await read(gone))[1].finish_reason is FinishReason.CANCELLED


async def test_logits_that_are_not_finite_fail_one_and_the_engine_goes_on(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(infinite={0}))
    bad, good = engine.submit(request([1])), engine.submit(request([2]))
    tokens, last = await read(bad)
    assert (tokens, last.finish_reason) == ([], FinishReason.FAILED)
    assert last.error == "The model produced numbers that are not finite."
    assert (await read(good))[0] == reference([2], params())[0]


async def test_figures_tell_what_runs_and_what_was_done(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(FakeRunner(before_step=gate), max_running=1)
    streams = [engine.submit(request([n] * 9, params(2, ignore_eos=True))) for n in (1, 2)]
    assert engine.stats().waiting == 2
    await gate.next_step()
    gate.passes.release()
    await gate.next_step()
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.generation_tokens) == (1, 1, 1)
    assert stats.kv_cache_usage > 0
    gate.open()
    for stream in streams:
        await read(stream)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.kv_cache_usage) == (0, 0, 0)
    assert (stats.prompt_tokens, stats.generation_tokens) == (18, 4)


# -- the runner breaks


def broken(batch: Batch) -> None:
    raise ZeroDivisionError("secret inside")


async def test_a_broken_runner_fails_all_and_the_engine_refuses_more(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    runner = FakeRunner(before_step=broken)
    engine = make_engine(runner)
    with caplog.at_level(logging.ERROR, "minivault.engine"):
        for stream in [engine.submit(request([n])) for n in range(3)]:
            tokens, last = await read(stream)
            assert (tokens, last.finish_reason) == ([], FinishReason.FAILED)
            assert last.error is not None
            assert "secret" not in last.error
    with pytest.raises(EngineFailed, match="broke"):
        engine.submit(request([1]))
    await engine.close()
    assert isinstance(engine.failure, ZeroDivisionError)
    assert "secret inside" in caplog.text
    assert (runner.closed, engine.stats().running, engine.stats().waiting) == (1, 0, 0)


class Panic(BaseException):
    """As a library in another language may raise."""


async def test_a_panic_fails_all_too_and_leaves_nobody_waiting(make_engine: MakeEngine) -> None:
    def panic(batch: Batch) -> None:
        raise Panic

    engine = make_engine(FakeRunner(before_step=panic))
    _, last = await read(engine.submit(request([1])))
    assert last.finish_reason is FinishReason.FAILED
    assert isinstance(engine.failure, Panic)
    with pytest.raises(EngineFailed, match="broke"):
        engine.submit(request([1]))


async def test_a_runner_that_forgets_a_token_is_a_broken_one(make_engine: MakeEngine) -> None:
    class Forgetful(FakeRunner):
        def step(self, batch: Batch) -> SampledTokens:
            return [[] for _ in batch]

    engine = make_engine(Forgetful())
    _, last = await read(engine.submit(request([1])))
    assert last.finish_reason is FinishReason.FAILED
    assert isinstance(engine.failure, RuntimeError)


async def test_a_runner_that_cannot_be_closed_does_not_hold_up_the_close(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(FakeRunner):
        def close(self) -> None:
            raise OSError("cannot unmap")

    engine = NativeEngine(Stuck(), INFO)
    with caplog.at_level(logging.ERROR, "minivault.engine"):
        await engine.close()
    assert "cannot unmap" in caplog.text


# -- close


async def test_close_fails_what_runs_and_waits_and_frees_the_runner() -> None:
    gate = Gate()
    runner = FakeRunner(before_step=gate)
    engine = NativeEngine(runner, INFO, max_running=1)
    streams = [engine.submit(request([n], ENDLESS)) for n in (1, 2)]
    await gate.next_step()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)  # the loop goes on while a step still runs
    assert not closing.done()
    gate.open()
    await closing
    for stream in streams:
        _, last = await read(stream)
        assert (last.finish_reason, last.error) == (FinishReason.FAILED, "The engine was closed.")
    assert runner.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "minivault-engine"]


async def test_close_twice_and_at_once_is_close_once() -> None:
    runner = FakeRunner()
    engine = NativeEngine(runner, INFO)
    await asyncio.gather(engine.close(), engine.close())
    await engine.close()
    assert runner.closed == 1


async def test_a_closed_engine_takes_nothing() -> None:
    engine = NativeEngine(FakeRunner(), INFO)
    await engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.submit(request([1]))


# -- loops that go away; not async, since they bring loops of their own


def test_a_loop_that_is_gone_cancels_its_sequences_and_the_next_loop_takes_over() -> None:
    gate = Gate()
    engine = NativeEngine(FakeRunner(before_step=gate), INFO, max_running=2, max_waiting=0)

    async def leave() -> None:
        for n in (1, 2):
            engine.submit(request([n], ENDLESS))
        await gate.next_step()

    async def come() -> None:
        stream = engine.submit(request([5]))
        gate.open()
        tokens, last = await read(stream)
        assert (tokens, last.finish_reason) == reference([5], params())
        assert engine.stats().running == 0
        await engine.close()

    asyncio.run(leave())
    asyncio.run(come())
    assert engine.failure is None


def test_a_loop_that_is_gone_for_good_leaves_an_engine_that_sleeps() -> None:
    gate = Gate()
    runner = FakeRunner(before_step=gate)
    engine = NativeEngine(runner, INFO)

    async def leave() -> None:
        engine.submit(request([1], ENDLESS))
        await gate.next_step()

    asyncio.run(leave())
    gate.passes.release()
    asyncio.run(engine.close())
    assert (engine.failure, runner.closed) == (None, 1)
    assert gate.reached.empty(), "a step for nobody"


def test_two_loops_at_once_are_refused() -> None:
    engine = NativeEngine(FakeRunner(), INFO)
    other = asyncio.new_event_loop()

    async def submit() -> None:
        engine.submit(request([1]))

    async def submit_beside() -> None:
        await submit()
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(other.run_until_complete, submit())
        await engine.close()

    asyncio.run(submit_beside())
    other.close()


# -- properties


@settings(max_examples=40)
@given(
    work=st.lists(
        st.tuples(
            st.lists(st.integers(0, 2), min_size=1, max_size=20),
            st.builds(params, max_tokens=st.integers(1, 12), seed=st.integers(0, 3)),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["read", "cancel at once", "cancel at the first token"]),
        ),
        min_size=1,
        max_size=12,
    ),
    num_blocks=st.integers(8, 20),
    max_batch_tokens=st.integers(1, 16),
)
def test_every_stream_ends_with_its_own_tokens_whatever_others_do(
    work: list[tuple[list[int], SamplingParams, str, str]], num_blocks: int, max_batch_tokens: int
) -> None:
    async def one(engine: NativeEngine, prompt: list[int], sampling: SamplingParams, key: str, deed: str) -> None:
        stream = engine.submit(replace(request(prompt, sampling), fairness_key=key))
        if deed == "cancel at once":
            stream.cancel()
        tokens: list[int] = []
        async for step in stream:
            tokens += step.token_ids
            last = step
            if deed != "read":
                stream.cancel()
        expected, reason = reference(prompt, sampling)
        if last.finish_reason is FinishReason.CANCELLED:
            assert deed != "read"
            assert tokens == expected[: len(tokens)]
        else:
            assert (tokens, last.finish_reason) == (expected, reason)

    async def everything() -> None:
        engine = NativeEngine(FakeRunner(num_blocks), INFO, max_batch_tokens=max_batch_tokens, max_running=4)
        await asyncio.gather(*(one(engine, *job) for job in work))
        assert engine.stats().kv_cache_usage == 0
        await engine.close()
        assert engine.failure is None

    asyncio.run(everything())
