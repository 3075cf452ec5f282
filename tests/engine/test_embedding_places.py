"""How many texts of a fairness key are in the engine at once, and what becomes of those that wait for it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineRequest, TokenStep
from minivault.engine.native.decoder_embedding import TOGETHER, DecoderEmbedder
from minivault.errors import EngineFailed
from minivault.generation import FinishReason
from tests.engine.fakes import INFO
from tests.fakes import until

TEXTS = [[number % INFO.vocab_size] for number in range(30)]


class HeldStream:
    """Ends when its engine is let go, or when it is cancelled. The vector is the text."""

    def __init__(self, engine: HeldEngine, request: EngineRequest) -> None:
        self.request = request
        self.vector: bytes | None = bytes(request.prompt_token_ids)
        self._engine = engine
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[TokenStep]:
        await self._engine.gate.wait()
        self._engine.live.remove(self)
        failed = self.request.prompt_token_ids == self._engine.fails
        if failed:
            yield TokenStep((), finish_reason=FinishReason.FAILED, error="broke")
        else:
            yield TokenStep((1,), finish_reason=FinishReason.LENGTH)

    def cancel(self) -> None:
        if self in self._engine.live:
            self.cancelled = True
            self._engine.live.remove(self)


class HeldEngine:
    info = INFO

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.live: list[HeldStream] = []
        self.submitted: list[HeldStream] = []
        self.most: Counter[str] = Counter()
        self.fails: tuple[int, ...] = ()

    def submit(self, request: EngineRequest) -> HeldStream:
        stream = HeldStream(self, request)
        self.live.append(stream)
        self.submitted.append(stream)
        key = request.fairness_key
        self.most[key] = max(self.most[key], sum(one.request.fairness_key == key for one in self.live))
        return stream


def embedder(engine: HeldEngine) -> DecoderEmbedder:
    return DecoderEmbedder(engine, EmbeddingInfo(1, 10, False, "sha256:03"), "mean")


async def test_the_jobs_of_a_key_share_its_places_and_other_keys_have_their_own() -> None:
    engine = HeldEngine()
    shared = embedder(engine)
    jobs = [asyncio.ensure_future(shared.embed(TEXTS, fairness_key=key).vectors()) for key in ("a", "a", "a", "b")]
    await until(lambda: len(engine.live) == 2 * TOGETHER)
    engine.gate.set()
    assert await asyncio.gather(*jobs) == [tuple(bytes(text) for text in TEXTS)] * 4
    assert engine.most == {"a": TOGETHER, "b": TOGETHER}


async def test_a_job_that_waits_for_places_ends_at_once_when_it_is_cancelled() -> None:
    engine = HeldEngine()
    shared = embedder(engine)
    first = asyncio.ensure_future(shared.embed(TEXTS).vectors())
    await until(lambda: len(engine.live) == TOGETHER)
    job = shared.embed(TEXTS)
    second = asyncio.ensure_future(job.vectors())
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(EngineFailed):
        await second
    assert len(engine.submitted) == TOGETHER
    engine.gate.set()
    assert len(await first) == len(TEXTS)


async def test_a_job_that_is_cancelled_before_it_runs_asks_the_engine_for_nothing() -> None:
    engine = HeldEngine()
    job = embedder(engine).embed(TEXTS)
    job.cancel()
    with pytest.raises(EngineFailed):
        await job.vectors()
    assert engine.submitted == []


async def test_a_wait_that_is_cancelled_takes_its_texts_out_of_the_engine() -> None:
    engine = HeldEngine()
    waiting = asyncio.ensure_future(embedder(engine).embed(TEXTS).vectors())
    await until(lambda: len(engine.live) == TOGETHER)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert engine.live == []
    assert len(engine.submitted) == TOGETHER


async def test_a_text_that_fails_ends_its_job_alone_and_gives_its_places_back() -> None:
    engine = HeldEngine()
    engine.fails = tuple(TEXTS[2])
    shared = embedder(engine)
    failing, sound = (asyncio.ensure_future(shared.embed(texts).vectors()) for texts in (TEXTS[:12], TEXTS[3:12]))
    await until(lambda: len(engine.live) == TOGETHER)
    engine.gate.set()
    with pytest.raises(EngineFailed, match="broke"):
        await failing
    assert await sound == tuple(bytes(text) for text in TEXTS[3:12])
    assert engine.live == []


def test_places_outlive_neither_their_jobs_nor_their_loop() -> None:
    shared: list[DecoderEmbedder] = []

    async def leave() -> None:
        engine = HeldEngine()
        shared.append(embedder(engine))
        waiting = [asyncio.ensure_future(shared[0].embed(TEXTS).vectors()) for _ in range(2)]
        await until(lambda: len(engine.live) == TOGETHER)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def come() -> asyncio.Semaphore:
        return shared[0].places("")

    asyncio.run(leave())
    gc.collect()
    places = asyncio.run(come())
    assert (places.locked(), len(shared[0]._places)) == (False, 1)
    del places
    assert len(shared[0]._places) == 0
