"""Embeds with a model that answers: a text runs through the engine like any prompt, and its tokens' vectors are pooled.

Knows nothing of how they are computed. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineInfo, EngineRequest, TokenStep
from minivault.engine.native.encoder import CANCELLED, NOT_FINITE, check_texts
from minivault.errors import EngineFailed
from minivault.generation import FinishReason, SamplingParams

TOGETHER = 8
"""Texts of one job that are in the engine at a time: the others' streams go on beside them."""
_ONE_TOKEN = SamplingParams(
    max_tokens=1, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, repetition_penalty=1.0, seed=0
)


class PooledStream(Protocol):
    """A sequence whose prompt is pooled."""

    @property
    def vector(self) -> bytes | None: ...

    def __aiter__(self) -> AsyncIterator[TokenStep]: ...

    def cancel(self) -> None: ...


class PoolingEngine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    def submit(self, request: EngineRequest) -> PooledStream: ...


class DecoderEmbedder:
    """Implements :class:`minivault.engine.embedding.Embedder`."""

    def __init__(self, engine: PoolingEngine, embedding: EmbeddingInfo, kind: str) -> None:
        self._engine = engine
        self._kind = kind
        self.embedding = embedding

    def embed(self, texts: Sequence[Sequence[int]], *, fairness_key: str = "") -> DecoderJob:
        """See :meth:`minivault.engine.embedding.Embedder.embed`."""
        check_texts(texts, self.embedding.max_tokens, self._engine.info.vocab_size)
        return DecoderJob(self, tuple(texts), fairness_key)

    def run(self, text: Sequence[int], fairness_key: str) -> PooledStream:
        """For :class:`DecoderJob` alone."""
        request = EngineRequest(
            request_id="",
            prompt_token_ids=tuple(text),
            sampling=_ONE_TOKEN,
            fairness_key=fairness_key,
            pooling=self._kind,
            normalized=self.embedding.normalized,
        )
        return self._engine.submit(request)


class DecoderJob:
    """Implements :class:`minivault.engine.embedding.EmbeddingJob`."""

    def __init__(self, embedder: DecoderEmbedder, texts: tuple[Sequence[int], ...], fairness_key: str) -> None:
        self._embedder = embedder
        self._texts = texts
        self._fairness_key = fairness_key
        self._running: set[PooledStream] = set()
        self._cancelled = False

    async def vectors(self) -> tuple[bytes, ...]:
        found: dict[int, bytes] = {}
        waiting = iter(enumerate(self._texts))

        async def worker() -> None:
            for place, text in waiting:
                found[place] = await self._vector(text)

        workers = [asyncio.ensure_future(worker()) for _ in range(min(TOGETHER, len(self._texts)))]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            self.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        return tuple(found[place] for place in range(len(self._texts)))

    async def _vector(self, text: Sequence[int]) -> bytes:
        if self._cancelled:
            raise EngineFailed(CANCELLED)
        stream = self._embedder.run(text, self._fairness_key)
        self._running.add(stream)
        try:
            end: TokenStep | None = None
            async for step in stream:
                end = step
        finally:
            self._running.discard(stream)
        if end is None or end.finish_reason not in (FinishReason.LENGTH, FinishReason.STOP):
            raise EngineFailed((end and end.error) or CANCELLED)
        if stream.vector is None:
            raise EngineFailed(NOT_FINITE)
        return stream.vector

    def cancel(self) -> None:
        self._cancelled = True
        for stream in list(self._running):
            stream.cancel()
