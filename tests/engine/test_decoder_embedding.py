"""Models that answer embed too: a text's vector is the mean of its rows, and depends on nothing but its tokens."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from minivault.engine.engine import EngineRequest
from minivault.engine.native import sizes
from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.load import load_native_engine
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import RunnerOptions
from minivault.errors import InvalidRequest
from minivault.generation import SamplingParams
from minivault.models.pooling import Kind, PoolingConfig
from tests.engine.checkpoints import opened
from tests.oracle.encoders import DECODER_TEXTS as TEXTS
from tests.oracle.encoders import DECODER_VECTORS
from tests.oracle.encoders import DECODERS as MODELS


def engine(
    name: str,
    kind: Kind = "mean",
    *,
    budget: int = 512,
    precision: Precision = "int8",
    threads: int = 2,
    max_running: int = 64,
    max_waiting: int = 256,
) -> NativeEngine:
    """A fresh one; the test closes it."""
    options = RunnerOptions(
        precision, threads, kv_cache_memory=1 << 22, max_batch_tokens=budget, max_running=max_running
    )
    return load_native_engine(*opened(name), options, max_waiting=max_waiting, pooling=PoolingConfig(kind))


async def vectors(served: NativeEngine, texts: list[list[int]]) -> list[bytes]:
    assert served.embedder is not None
    return list(await served.embedder.embed(texts).vectors())


@pytest.mark.parametrize("kind", ["mean", "last"])
@pytest.mark.parametrize("name", MODELS)
async def test_neither_pieces_nor_batch_mates_nor_threads_change_a_bit(name: str, kind: Kind) -> None:
    one, other = engine(name, kind, threads=1), engine(name, kind, budget=16, threads=3)
    try:
        alone = [(await vectors(one, [text]))[0] for text in TEXTS]
        prompt = EngineRequest("1", (1, 2, 3), SamplingParams(max_tokens=30, temperature=0.0, seed=1))
        stream = other.submit(prompt)
        together = await vectors(other, [*TEXTS, *TEXTS])
        stream.cancel()
    finally:
        await asyncio.gather(one.close(), other.close())
    assert together == [*alone, *alone]


@pytest.mark.parametrize("room", [(1, 0), (2, 2), (64, 256)])
async def test_an_embedding_has_the_same_bytes_however_little_room_there_is(room: tuple[int, int]) -> None:
    plain, narrow = engine("llama-gqa", threads=1), engine("llama-gqa", max_running=room[0], max_waiting=room[1])
    embedder = narrow.embedder
    assert embedder is not None
    prompt = EngineRequest("1", (1, 2, 3), SamplingParams(max_tokens=30, temperature=0.0, seed=1))
    try:
        alone = [(await vectors(plain, [text]))[0] for text in TEXTS]
        stream = narrow.submit(prompt)
        jobs = [embedder.embed(TEXTS * 4, fairness_key=key).vectors() for key in ("a", "a", "b")]
        together = await asyncio.gather(*jobs)
        stream.cancel()
    finally:
        await asyncio.gather(plain.close(), narrow.close())
    assert together == [tuple(alone * 4)] * 3


async def test_a_vector_has_length_one_and_the_models_width() -> None:
    served = engine("llama-gqa")
    try:
        (vector,) = await vectors(served, [[1, 2, 3]])
    finally:
        await served.close()
    values = np.frombuffer(vector, "<f4")
    assert len(values) == opened("llama-gqa")[0].hidden_size
    assert np.linalg.norm(values) == pytest.approx(1, abs=1e-6)


async def test_a_cached_prefix_leaves_no_row_out() -> None:
    served = engine("llama-gqa")
    text = list(range(3, 60))
    try:
        first = await vectors(served, [text])
        async for _ in served.submit(
            EngineRequest("1", tuple(text), SamplingParams(max_tokens=2, temperature=0.0, seed=1))
        ):
            pass
        assert await vectors(served, [text]) == first
    finally:
        await served.close()


async def test_embedded_texts_push_no_prefix_out_of_the_cache() -> None:
    arch, _ = opened("llama-gqa")
    options = RunnerOptions("f32", 1, kv_cache_memory=8 * sizes.block_bytes(arch, "f32"))
    served = load_native_engine(*opened("llama-gqa"), options, pooling=PoolingConfig("mean"))
    prompt = EngineRequest("1", tuple(range(3, 52)), SamplingParams(max_tokens=2, temperature=0.0, seed=1))
    try:
        assert [step async for step in served.submit(prompt)]
        for start in range(6):
            await vectors(served, [list(range(start, start + 40))])
        assert [step async for step in served.submit(prompt)]
        stats = served.stats()
        assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (2 * 49, 48)
    finally:
        await served.close()


async def test_a_text_beyond_the_context_is_refused() -> None:
    served = engine("gpt2")
    assert served.embedder is not None
    longest = served.embedder.embedding.max_tokens
    try:
        with pytest.raises(InvalidRequest, match=f"1 to {longest} tokens"):
            served.embedder.embed([[1] * (longest + 1)])
    finally:
        await served.close()


@pytest.mark.parametrize("name", MODELS)
async def test_f32_vectors_are_those_of_pytorch(name: str) -> None:
    with np.load(DECODER_VECTORS, allow_pickle=False) as stored:
        wanted = stored[name]
    served = engine(name, precision="f32")
    try:
        found = np.stack([np.frombuffer(vector, "<f4") for vector in await vectors(served, TEXTS)])
    finally:
        await served.close()
    assert (found * wanted).sum(1).min() >= 0.99999
