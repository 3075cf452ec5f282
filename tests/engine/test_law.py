"""The law: tokens are a function of weights, prompt, parameters and seed, and of nothing else; logits to the bit.

Batch mates, arrival times, chunk sizes, blocks, threads, kernel sets, cache hits, preemption and speculation are drawn
at random; nothing may show.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minivault.engine.engine import EngineRequest
from minivault.engine.native import _native
from minivault.engine.native.packing import Precision, core_spec
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.engine.native.sequence import BatchItem, Sequence
from minivault.generation import SamplingParams, TokenLogprob
from tests.engine.checkpoints import engine, opened, runner
from tests.oracle.golden import cases

MODELS = [golden.name for golden in cases()]
"""Every family, variant and rope scaling that there is."""
KERNELS = _native.available_kernels()
REFERENCE = {p: RunnerOptions(precision=p, threads=1, kernels="scalar") for p in ("int8", "int4", "f32")}
VOCAB = 256
"""Prompt ids are drawn below this; every test checkpoint has more."""

prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=90)
repetitive_prompts = st.builds(
    lambda piece, times: (piece * times)[:90],
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20),
    st.integers(2, 9),
)
precisions: st.SearchStrategy[Precision] = st.sampled_from(["int8", "int4", "f32"])
any_options = st.builds(
    RunnerOptions, precision=precisions, threads=st.sampled_from([1, 2, 3]), kernels=st.sampled_from(KERNELS)
)
any_params = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 24),
    min_tokens=st.sampled_from([0, 4]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 5, 40]),
    top_p=st.sampled_from([0.2, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    typical_p=st.sampled_from([0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([(), ((5, 2.5), (9, -100.0))]),
    stop_token_ids=st.sampled_from([(), tuple(range(0, VOCAB, 9))]),
    seed=st.integers(0, 2**53 - 1),
    logprobs=st.sampled_from([None, 0, 3]),
)


def bits(logits: NDArray[np.float32]) -> NDArray[np.uint32]:
    return logits.view(np.uint32)


def cut(total: int, at: list[int]) -> list[int]:
    """Sizes of the pieces of ``range(total)`` cut at ``at``."""
    edges = sorted({0, total, *(point % total for point in at)})
    return [end - start for start, end in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(MODELS),
    prompt=prompts,
    options=any_options,
    at=st.lists(st.integers(0, 89), max_size=4),
    shuffle=st.randoms(use_true_random=False),
)
def test_no_chunking_block_thread_or_kernel_changes_a_bit_of_the_logits(
    name: str, prompt: list[int], options: RunnerOptions, at: list[int], shuffle: object
) -> None:
    expected = runner(name, REFERENCE[options.precision]).logits(prompt)
    run = runner(name, options)
    blocks = list(range(40))
    shuffle.shuffle(blocks)  # type: ignore[attr-defined]
    found = run.logits(prompt, chunks=cut(len(prompt), at), blocks=blocks[: -(-len(prompt) // run.block_size)])
    assert np.array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("precision", ["int8", "int4", "f32"])
def test_a_long_prompt_in_one_step_has_the_bits_of_short_chunks(precision: Precision, kernels: str) -> None:
    """More rows than are multiplied at once."""
    prompt = [(7 * place * place + place) % VOCAB for place in range(320)]
    run = runner("llama-gqa", RunnerOptions(precision=precision, threads=2, kernels=kernels))
    assert np.array_equal(bits(run.logits(prompt)), bits(run.logits(prompt, chunks=[90, 100, 130])))


Answer = tuple[list[int], list[TokenLogprob]]


def run_alone(run: NativeRunner, prompt: list[int], params: SamplingParams) -> Answer:
    """One sequence by the plainest schedule there is: the whole prompt, then one token at a time."""
    sequence = Sequence(id=0, token_ids=list(prompt), params=params)
    sequence.block_table = list(range(20))
    logprobs = []
    start = 0
    for _ in range(params.max_tokens or 1):
        count = len(sequence.token_ids) - start
        ((sampled,),) = run.step([BatchItem(sequence, start, count, True)])
        start += count
        if sequence.ends_with(sampled.token_id):
            break
        sequence.token_ids.append(sampled.token_id)
        if sampled.logprob is not None:
            logprobs.append(sampled.logprob)
    return sequence.token_ids[len(prompt) :], logprobs


async def run_together(
    name: str, options: RunnerOptions, jobs: list[tuple[list[int], SamplingParams]], arrivals: list[int]
) -> list[Answer]:
    """The answers to all jobs by one engine: the first is submitted at once, each other once the first has given as
    many tokens as ``arrivals`` says of it, or has ended."""
    served = engine(name, options)
    given, moved = 0, asyncio.Condition()

    async def note(steps: int) -> None:
        nonlocal given
        async with moved:
            given += steps
            moved.notify_all()

    async def one(index: int) -> Answer:
        prompt, params = jobs[index]
        if index:
            async with moved:
                await moved.wait_for(lambda: given >= arrivals[index % len(arrivals)])
        tokens: list[int] = []
        logprobs: list[TokenLogprob] = []
        async for step in served.submit(EngineRequest(str(index), tuple(prompt), params)):
            assert step.error is None
            tokens.extend(step.token_ids)
            logprobs.extend(step.logprobs)
            if index == 0:
                await note(len(step.token_ids) if step.finish_reason is None else 1000)
        return tokens, logprobs

    try:
        return await asyncio.gather(*(one(index) for index in range(len(jobs))))
    finally:
        await served.close()


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(MODELS),
    precision=precisions,
    threads=st.sampled_from([1, 2]),
    kernels=st.sampled_from(KERNELS),
    jobs=st.lists(st.tuples(prompts | repetitive_prompts, any_params), min_size=1, max_size=6),
    budget=st.sampled_from([16, 23, 64, 512]),
    blocks=st.sampled_from([14, 30, 400]),
    speculation=st.booleans(),
    arrivals=st.lists(st.sampled_from([0, 0, 1, 3, 9]), min_size=1, max_size=6),
)
def test_no_batch_mate_arrival_budget_cache_hit_preemption_or_speculation_changes_a_token(
    name: str,
    precision: Precision,
    threads: int,
    kernels: str,
    jobs: list[tuple[list[int], SamplingParams]],
    budget: int,
    blocks: int,
    speculation: bool,
    arrivals: list[int],
) -> None:
    memory = blocks * _native.block_bytes(core_spec(opened(name)[0], precision))
    options = RunnerOptions(
        precision, threads, kernels, kv_cache_memory=memory, max_batch_tokens=budget, speculation=speculation
    )
    repeated = [*jobs, jobs[0]]  # the same prompt again, so that the prefix cache has something to give
    together = asyncio.run(run_together(name, options, repeated, arrivals))
    reference = runner(name, REFERENCE[precision])
    assert together == [run_alone(reference, prompt, params) for prompt, params in repeated]


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize("precision", ["int8", "int4", "f32"])
async def test_speculation_saves_steps_and_changes_neither_tokens_nor_logprobs(
    precision: Precision, temperature: float
) -> None:
    prompt = [7, 8, 9] * 8
    bias = tuple((token_id, 12.0) for token_id in (7, 8, 9))  # so that a model of random weights keeps to few words
    sampling = SamplingParams(
        max_tokens=60, temperature=temperature, seed=3, logprobs=2, frequency_penalty=0.1, logit_bias=bias
    )
    served = engine("llama-gqa", RunnerOptions(precision=precision, threads=2))
    tokens: list[int] = []
    logprobs: list[TokenLogprob] = []
    async for step in served.submit(EngineRequest("1", tuple(prompt), sampling)):
        tokens.extend(step.token_ids)
        logprobs.extend(step.logprobs)
    stats = served.stats()
    await served.close()
    assert (tokens, logprobs) == run_alone(runner("llama-gqa", REFERENCE[precision]), prompt, sampling)
    assert 0 < stats.spec_decode_num_accepted_tokens < stats.spec_decode_num_draft_tokens


@pytest.mark.parametrize("precision", ["int8", "int4", "f32"])
def test_a_group_of_outliers_infinite_or_not_a_number_fails_its_own_sequence_alone(precision: Precision) -> None:
    run = runner("llama-gqa", RunnerOptions(precision=precision, threads=2))
    bias = SamplingParams(temperature=0.0, max_tokens=4, logit_bias=((5, float("inf")),))
    broken = Sequence(id=0, token_ids=[1, 2, 3], params=bias)
    sound = Sequence(id=1, token_ids=[1, 2, 3], params=SamplingParams(temperature=0.0, max_tokens=4))
    broken.block_table, sound.block_table = [0], [1]
    (first,), (second,) = run.step([BatchItem(broken, 0, 3, True), BatchItem(sound, 0, 3, True)])
    assert not first.finite
    assert second.finite
