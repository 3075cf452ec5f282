"""Embeds with a model that answers: a text runs through the engine like any prompt, and its tokens' vectors are pooled.

A call of many texts was admitted once. So its texts take none of the engine's room for requests, and wait here for
places of their own: no embedding makes the engine refuse anything, itself included.

Knows nothing of how vectors are computed. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineInfo, EngineRequest, TokenStep
from minivault.engine.native.encoder import CANCELLED, NOT_FINITE, check_texts
from minivault.errors import EngineFailed
from minivault.generation import FinishReason, SamplingParams

TOGETHER = 8
"""Texts of one fairness key that are in the engine at a time, of however many jobs: its answers need not wait behind
more, and other keys not at all."""
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
        self._places = WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Semaphore]()

    def embed(self, texts: Sequence[Sequence[int]], *, fairness_key: str = "") -> DecoderJob:
        """See :meth:`minivault.engine.embedding.Embedder.embed`."""
        check_texts(texts, self.embedding.max_tokens, self._engine.info.vocab_size)
        return DecoderJob(self, tuple(texts), fairness_key)

    def places(self, fairness_key: str) -> asyncio.Semaphore:
        """For :class:`DecoderJob` alone: shared by a key's jobs on this event loop, and gone with the last of them."""
        return self._places.setdefault((asyncio.get_running_loop(), fairness_key), asyncio.Semaphore(TOGETHER))

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
        self._workers: list[asyncio.Future[None]] = []
        self._cancelled = False

    async def vectors(self) -> tuple[bytes, ...]:
        if self._cancelled:
            raise EngineFailed(CANCELLED)
        found: dict[int, bytes] = {}
        waiting = iter(enumerate(self._texts))
        places = self._embedder.places(self._fairness_key)

        async def worker() -> None:
            for number, text in waiting:
                async with places:
                    found[number] = await self._vector(text)

        self._workers = [asyncio.ensure_future(worker()) for _ in range(min(TOGETHER, len(self._texts)))]
        try:
            await asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self.cancel()  # those that have ended do not mind
            ends = await asyncio.gather(*self._workers, return_exceptions=True)
        _raise_first(ends)
        return tuple(found[number] for number in range(len(self._texts)))

    async def _vector(self, text: Sequence[int]) -> bytes:
        stream = self._embedder.run(text, self._fairness_key)
        end: TokenStep | None = None
        try:
            async for step in stream:
                end = step
        finally:
            stream.cancel()  # does nothing to one that has ended
        if end is None or end.finish_reason not in (FinishReason.LENGTH, FinishReason.STOP):
            raise EngineFailed((end and end.error) or CANCELLED)
        if stream.vector is None:
            raise EngineFailed(NOT_FINITE)
        return stream.vector

    def cancel(self) -> None:
        self._cancelled = True
        for worker in self._workers:
            worker.cancel()


def _raise_first(ends: Sequence[BaseException | None]) -> None:
    """What went wrong, if anything did; that workers were cancelled only where nothing else did."""
    wrong = [end for end in ends if end is not None]
    if wrong:
        raise next((end for end in wrong if not isinstance(end, asyncio.CancelledError)), EngineFailed(CANCELLED))
