"""The native encoder: one thread that turns queued texts into vectors, some thousand tokens at a time.

Two owners meet here, as in ``engine.py``: the event loop owns the jobs and their futures, the encoder's thread owns the
core and the queue. Jobs take turns, a text of each, so that a large one does not keep small ones waiting. Knows nothing
of text, HTTP or records, nor of how a vector is computed.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from minivault.engine.embedding import EmbeddingInfo
from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStream
from minivault.engine.native.engine import BROKEN, CLOSED
from minivault.errors import EngineFailed, InvalidRequest, UnsupportedFeature

logger = logging.getLogger("minivault.engine")

BATCH_TOKENS = 1024
"""Tokens computed together: enough to read the weights once for many rows, few enough to stay in the caches."""
NO_ANSWERS = "this model embeds texts and gives no answers: ask it at /v1/embeddings"
NOT_FINITE = "A vector is infinite or not a number."
CANCELLED = "The embedding was cancelled."
_LAST_BATCH_SECONDS = 10.0


class EncoderRunner(Protocol):
    """What computes. Owner: the encoder's thread, from the first batch on."""

    def encode(self, texts: list[list[int]]) -> list[bytes | None]:
        """A vector for each text, ``None`` for one that is not finite. Releases the GIL."""

    def close(self) -> None:
        """Free the weights. Called once; nothing comes after it."""


@dataclass(slots=True, eq=False)
class Job:
    """Texts of one caller. Implements :class:`minivault.engine.embedding.EmbeddingJob`."""

    texts: tuple[Sequence[int], ...]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[bytes, ...]]
    # Owner: the encoder's thread.
    next: int = 0
    """The first text that has not begun."""
    found: list[bytes] = field(default_factory=list)
    cancelled: bool = False
    """Set on the event loop, once; read by the thread between batches."""

    async def vectors(self) -> tuple[bytes, ...]:
        try:
            return await self.future
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        self.cancelled = True
        self.fail(CANCELLED)

    def fail(self, message: str) -> None:
        if not self.future.done():
            self.future.set_exception(EngineFailed(message))
            self.future.exception()  # whoever left does not hear of it, and nobody need be told

    def finish(self) -> None:
        if not self.future.done():
            self.future.set_result(tuple(self.found))


class NativeEncoder:
    """Implements :class:`minivault.engine.embedding.Embedder`, and of an engine all but answering."""

    def __init__(self, runner: EncoderRunner, info: EngineInfo, embedding: EmbeddingInfo) -> None:
        """Takes over ``runner`` and starts the thread; :meth:`close` ends it and frees the runner."""
        self.info = info
        self.embedding = embedding
        self._runner = runner  # owner: the encoder's thread
        self._jobs: deque[Job] = deque()  # owner: the encoder's thread
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: stop
        self._open: set[Job] = set()  # owner: the event loop
        self._tokens = 0  # embedded so far; by the encoder's thread
        self._refusal: str | None = None  # by the encoder's thread, once
        self._failure: BaseException | None = None  # by the encoder's thread, once
        self._thread = threading.Thread(target=self._run, name="minivault-encoder", daemon=True)
        self._thread.start()
        # A thread that comes back from the core after Python has ended would abort the process.
        atexit.register(self._end)

    # -- on the event loop

    @property
    def failure(self) -> BaseException | None:
        """What broke the encoder, if anything did."""
        return self._failure

    def submit(self, request: EngineRequest) -> TokenStream:
        raise UnsupportedFeature(NO_ANSWERS, param="model")

    def embed(self, texts: Sequence[Sequence[int]], *, fairness_key: str = "") -> Job:
        """See :meth:`minivault.engine.embedding.Embedder.embed`."""
        if self._refusal is not None:
            raise EngineFailed(self._refusal)
        check_texts(texts, self.embedding.max_tokens, self.info.vocab_size)
        loop = asyncio.get_running_loop()
        job = Job(tuple(texts), loop, loop.create_future())
        self._open.add(job)
        job.future.add_done_callback(lambda _: self._open.discard(job))
        self._inbox.put(job)
        if self._refusal is not None:  # it stopped in between, and may not have seen this one
            job.fail(self._refusal)
        return job

    def stats(self) -> EngineStats:
        begun = sum(job.next > 0 for job in list(self._open))
        return EngineStats(begun, len(self._open) - begun, 0.0, prompt_tokens=self._tokens)

    async def close(self) -> None:
        """Fail what still waits, stop the thread, free the memory. May be called again."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        atexit.unregister(self._end)

    def _end(self) -> None:
        self._inbox.put(None)
        self._thread.join(_LAST_BATCH_SECONDS)

    # -- on the encoder's thread

    def _run(self) -> None:
        message = CLOSED
        try:
            while self._receive():
                self._step()
        except BaseException as error:  # nobody may be left waiting
            logger.exception("The encoder broke.")
            self._failure = error
            message = BROKEN
        finally:
            # Order: refuse first, then end what was taken in.
            self._refusal = message
            self._fail_all(message)
            self._runner.close()

    def _receive(self) -> bool:
        """Take in what was queued, asleep while there is nothing else to do; False when it is time to stop."""
        while True:
            try:
                job = self._inbox.get(block=not self._jobs)
            except queue.Empty:
                return True
            if job is None:
                return False
            self._jobs.append(job)

    def _step(self) -> None:
        batch = self._next_batch()
        if not batch:
            return
        vectors = self._runner.encode([list(text) for _, text in batch])
        self._tokens += sum(len(text) for _, text in batch)
        for (job, _), vector in zip(batch, vectors, strict=True):
            if vector is None:
                job.cancelled = True
                _tell(job, lambda job=job: job.fail(NOT_FINITE))  # type: ignore[misc]
                continue
            job.found.append(vector)
            if len(job.found) == len(job.texts):
                _tell(job, job.finish)

    def _next_batch(self) -> list[tuple[Job, Sequence[int]]]:
        """A text of each job in turn, until they come to some thousand tokens; at least one."""
        batch: list[tuple[Job, Sequence[int]]] = []
        tokens = 0
        while self._jobs:
            job = self._jobs[0]
            if job.cancelled or job.next == len(job.texts):
                self._jobs.popleft()
                continue
            text = job.texts[job.next]
            if batch and tokens + len(text) > BATCH_TOKENS:
                break
            batch.append((job, text))
            tokens += len(text)
            job.next += 1
            self._jobs.rotate(-1)
        return batch

    def _fail_all(self, message: str) -> None:
        while True:
            with suppress(queue.Empty):
                while True:
                    job = self._inbox.get_nowait()
                    if job is not None:
                        self._jobs.append(job)
            if not self._jobs:
                break
            job = self._jobs.popleft()
            _tell(job, lambda job=job: job.fail(message))  # type: ignore[misc]
        for job in list(self._open):  # of the last batch: they had left the queue
            _tell(job, lambda job=job: job.fail(message))  # type: ignore[misc]


def check_texts(texts: Sequence[Sequence[int]], max_tokens: int, vocab_size: int) -> None:
    """
    Raises:
        InvalidRequest: a text has no tokens, too many, or one that the model does not have.
    """
    for text in texts:
        if not 1 <= len(text) <= max_tokens:
            raise InvalidRequest(f"input: each text must have 1 to {max_tokens} tokens", param="input")
        if min(text) < 0 or max(text) >= vocab_size:
            raise InvalidRequest(f"input: token ids must lie in 0 to {vocab_size - 1}", param="input")


def _tell(job: Job, call: Callable[[], None]) -> None:
    """Make a call on the job's loop, which may have ended meanwhile."""
    with suppress(RuntimeError):
        job.loop.call_soon_threadsafe(call)
