"""The law: tokens are a function of weights, prompt, parameters and seed, and of nothing else; logits to the bit.

Batch mates, chunk sizes, blocks, threads, kernel sets, cache hits and preemption are drawn at random; nothing may show.
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
from minivault.generation import SamplingParams
from tests.engine.checkpoints import engine, opened, runner

MODELS = ["llama-gqa", "gpt2", "mistral-window", "falcon-new-decoder", "gemma2", "gemma3", "qwen3", "gpt-neo", "phi3"]
KERNELS = _native.available_kernels()
REFERENCE = {p: RunnerOptions(precision=p, threads=1, kernels="scalar") for p in ("int8", "int4", "f32")}
VOCAB = 256
"""Prompt ids are drawn below this; every test checkpoint has more."""

prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=90)
precisions: st.SearchStrategy[Precision] = st.sampled_from(["int8", "int4", "f32"])
any_options = st.builds(
    RunnerOptions, precision=precisions, threads=st.sampled_from([1, 2, 3]), kernels=st.sampled_from(KERNELS)
)
any_params = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 12),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 5, 40]),
    top_p=st.sampled_from([0.2, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    typical_p=st.sampled_from([0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
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


def run_alone(run: NativeRunner, prompt: list[int], params: SamplingParams) -> list[int]:
    """Tokens of one sequence by the plainest schedule there is: the whole prompt, then one token at a time."""
    sequence = Sequence(id=0, token_ids=list(prompt), params=params)
    sequence.block_table = list(range(20))
    start = 0
    for _ in range(params.max_tokens or 1):
        count = len(sequence.token_ids) - start
        ((sampled,),) = run.step([BatchItem(sequence, start, count, True)])
        start += count
        sequence.token_ids.append(sampled.token_id)
    return sequence.token_ids[len(prompt) :]


async def run_together(
    name: str, options: RunnerOptions, jobs: list[tuple[list[int], SamplingParams]]
) -> list[list[int]]:
    """Tokens of all jobs, submitted at once to one engine."""
    served = engine(name, options)

    async def one(index: int) -> list[int]:
        prompt, params = jobs[index]
        tokens: list[int] = []
        async for step in served.submit(EngineRequest(str(index), tuple(prompt), params)):
            assert step.error is None
            tokens.extend(step.token_ids)
        return tokens

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
    jobs=st.lists(st.tuples(prompts, any_params), min_size=1, max_size=6),
    budget=st.sampled_from([16, 23, 64, 512]),
    blocks=st.sampled_from([14, 30, 400]),
)
def test_no_batch_mate_budget_cache_hit_or_preemption_changes_a_token(
    name: str,
    precision: Precision,
    threads: int,
    kernels: str,
    jobs: list[tuple[list[int], SamplingParams]],
    budget: int,
    blocks: int,
) -> None:
    memory = blocks * _native.block_bytes(core_spec(opened(name)[0], precision))
    options = RunnerOptions(precision, threads, kernels, kv_cache_memory=memory, max_batch_tokens=budget)
    repeated = [*jobs, jobs[0]]  # the same prompt again, so that the prefix cache has something to give
    together = asyncio.run(run_together(name, options, repeated))
    reference = runner(name, REFERENCE[precision])
    assert together == [run_alone(reference, prompt, params) for prompt, params in repeated]


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
