"""Adapters on the native engine: PEFT's logits, and the law over batches that mix a base and its adapters."""

from __future__ import annotations

import asyncio
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivault.engine.engine import EngineRequest
from minivault.engine.native import _native
from minivault.engine.native.adapter import PackedAdapter, adapted, pack_adapter
from minivault.engine.native.kv_cache import KVCache
from minivault.engine.native.packing import Precision, core_spec
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.engine.native.sequence import Sequence
from minivault.generation import SamplingParams
from minivault.models.adapter import opened_adapter
from tests.engine.checkpoints import engine, opened, runner
from tests.engine.test_law import KERNELS, bits, cut, prompts
from tests.oracle.adapters import ADAPTER_DATA, AdapterCase, adapter_case, adapter_cases
from tests.oracle.golden import case, folder_of

CASES = adapter_cases()
LLAMA = ("", "llama-all", "llama-qv")
"""The base itself, and two adapters of it."""
REFERENCE = {p: RunnerOptions(precision=p, threads=1, kernels="scalar") for p in ("int8", "int4", "f32")}
precisions: st.SearchStrategy[Precision] = st.sampled_from(["int8", "int4", "f32"])


@cache
def packed(name: str, base: str, options: RunnerOptions) -> PackedAdapter:
    core = runner(base, options).core
    assert core is not None
    with opened_adapter(ADAPTER_DATA / name, folder_of(base)) as adapter:
        return pack_adapter(core, adapter, name)


def handle(name: str, base: str, options: RunnerOptions) -> _native.Adapter | None:
    return packed(name, base, options).handle if name else None


@pytest.mark.parametrize("golden", CASES, ids=[case.name for case in CASES])
def test_f32_logits_equal_pefts_within_a_thousandth_of_their_range(golden: AdapterCase) -> None:
    options = RunnerOptions(precision="f32", threads=2)
    adapter = handle(golden.name, golden.base, options)
    logits = runner(golden.base, options).logits(golden.prompt_ids, adapter=adapter)
    assert np.abs(logits - golden.logits).max() <= 1e-3 * np.ptp(golden.logits)


@pytest.mark.parametrize("golden", CASES, ids=[case.name for case in CASES])
def test_f32_greedy_tokens_equal_pefts_over_32_steps(golden: AdapterCase) -> None:
    options = RunnerOptions(precision="f32", threads=2)
    run, adapter = runner(golden.base, options), handle(golden.name, golden.base, options)
    tokens = list(golden.prompt_ids)
    for _ in golden.greedy:
        tokens.append(int(run.logits(tokens, adapter=adapter)[-1].argmax()))
    assert tokens[len(golden.prompt_ids) :] == golden.greedy


@pytest.mark.parametrize("golden", CASES, ids=[case.name for case in CASES])
def test_int8_with_an_adapter_stays_close_to_peft(golden: AdapterCase) -> None:
    options = RunnerOptions(precision="int8", threads=2)
    adapter = handle(golden.name, golden.base, options)
    logits = runner(golden.base, options).logits(golden.prompt_ids, adapter=adapter)
    assert np.abs(logits - golden.logits).mean() <= 0.02 * np.ptp(golden.logits)


def test_an_adapter_of_nothing_changes_no_bit_and_one_of_something_does() -> None:
    options = RunnerOptions(precision="int8", threads=2)
    run = runner("llama-gqa", options)
    assert run.core is not None
    prompt = case("llama-gqa").prompt_ids
    plain = run.logits(prompt)
    assert np.array_equal(bits(run.logits(prompt, adapter=run.core.make_adapter([]))), bits(plain))
    assert not np.array_equal(bits(run.logits(prompt, adapter=handle("llama-qv", "llama-gqa", options))), bits(plain))


@settings(max_examples=40, deadline=None)
@given(
    golden=st.sampled_from(CASES),
    prompt=prompts,
    precision=precisions,
    threads=st.sampled_from([1, 2, 3]),
    kernels=st.sampled_from(KERNELS),
    at=st.lists(st.integers(0, 89), max_size=4),
)
def test_no_chunking_thread_or_kernel_changes_a_bit_of_adapted_logits(
    golden: AdapterCase, prompt: list[int], precision: Precision, threads: int, kernels: str, at: list[int]
) -> None:
    reference, options = REFERENCE[precision], RunnerOptions(precision=precision, threads=threads, kernels=kernels)
    expected = runner(golden.base, reference).logits(prompt, adapter=handle(golden.name, golden.base, reference))
    found = runner(golden.base, options).logits(
        prompt, chunks=cut(len(prompt), at), adapter=handle(golden.name, golden.base, options)
    )
    assert np.array_equal(bits(found), bits(expected))


async def together(
    options: RunnerOptions, jobs: list[tuple[str, list[int]]], *, prefix_cache: bool = True
) -> list[list[int]]:
    """The answers to all jobs, submitted at once to one engine with every adapter."""
    served = engine("llama-gqa", options, prefix_cache=prefix_cache)
    ways = {"": served}
    for name in LLAMA[1:]:
        with opened_adapter(ADAPTER_DATA / name, folder_of("llama-gqa")) as adapter:
            ways[name], _ = adapted(served, adapter, name)  # type: ignore[assignment]
    sampling = SamplingParams(max_tokens=12, temperature=0.0)

    async def one(name: str, prompt: list[int]) -> list[int]:
        stream = ways[name].submit(EngineRequest("1", tuple(prompt), sampling))
        return [token async for step in stream for token in step.token_ids]

    try:
        return await asyncio.gather(*(one(*job) for job in jobs))
    finally:
        await served.close()


def alone(run: NativeRunner, name: str, options: RunnerOptions, prompt: list[int]) -> list[int]:
    tokens = list(prompt)
    for _ in range(12):
        tokens.append(int(run.logits(tokens, adapter=handle(name, "llama-gqa", options))[-1].argmax()))
    return tokens[len(prompt) :]


@settings(max_examples=25, deadline=None)
@given(
    precision=precisions,
    threads=st.sampled_from([1, 2]),
    kernels=st.sampled_from(KERNELS),
    jobs=st.lists(st.tuples(st.sampled_from(LLAMA), prompts), min_size=1, max_size=6),
    budget=st.sampled_from([16, 64, 512]),
    blocks=st.sampled_from([14, 400]),
)
def test_no_batch_of_base_and_adapters_no_budget_cache_or_preemption_changes_a_token(
    precision: Precision,
    threads: int,
    kernels: str,
    jobs: list[tuple[str, list[int]]],
    budget: int,
    blocks: int,
) -> None:
    memory = blocks * _native.block_bytes(core_spec(opened("llama-gqa")[0], precision))
    options = RunnerOptions(precision, threads, kernels, kv_cache_memory=memory, max_batch_tokens=budget)
    prompt = jobs[0][1]
    every = [*jobs, *((name, prompt) for name in LLAMA)]  # one prompt with all, so that a wrong share would show
    reference = runner("llama-gqa", REFERENCE[precision])
    expected = [alone(reference, name, REFERENCE[precision], words) for name, words in every]
    assert asyncio.run(together(options, every)) == expected


def test_sequences_of_different_adapters_share_no_block() -> None:
    blocks = KVCache(20, 4)
    tokens = list(range(12))

    def admitted(number: int, digest: bytes) -> Sequence:
        sequence = Sequence(id=number, token_ids=list(tokens), params=SamplingParams(max_tokens=1))
        sequence.adapter_digest = digest
        assert blocks.admit(sequence)
        return sequence

    first = admitted(0, b"one")
    first.num_computed = 12
    blocks.commit(first)
    assert admitted(1, b"one").num_computed == 8
    assert admitted(2, b"two").num_computed == 0
    assert admitted(3, b"").num_computed == 0


def test_an_adapter_of_another_model_is_refused() -> None:
    options = RunnerOptions(precision="f32", threads=1)
    core = runner("gpt2-old-names", options).core  # three layers, and the adapter's model has two
    assert core is not None
    with pytest.raises(ValueError, match="model's shape"):
        core.make_adapter([(0, "qkv", np.zeros((2, 5), np.float32), np.zeros((7, 2), np.float32))])
    with pytest.raises(ValueError, match="another model"):
        runner("gpt2-old-names", options).logits([1, 2], adapter=handle("gpt2-all", "gpt2", options))
    assert adapter_case("gpt2-all").base == "gpt2"
