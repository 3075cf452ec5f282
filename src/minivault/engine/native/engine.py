"""The native engine as the rest of the house sees it: one thread that computes, and a stream for each sequence.

Two owners meet here. The engine thread owns scheduler and runner; the event loop owns the streams. What the loop wants
goes through the inbox; what a step gave goes back in one message, however many sequences it served. Knows nothing of
text, HTTP or records, nor of how a token is computed.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Protocol, TypeVar, runtime_checkable

from minivault.engine.embedding import Embedder
from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStep
from minivault.engine.native.kv_cache import KVCache
from minivault.engine.native.scheduler import MAX_DECODE_ROWS, Limits, Scheduler
from minivault.engine.native.sequence import Batch, SampledTokens, Sequence
from minivault.errors import EngineFailed, InvalidRequest
from minivault.generation import FinishReason, TokenLogprob

logger = logging.getLogger("minivault.engine")

T = TypeVar("T")

BROKEN = "The engine broke while it computed; the log of the server says how."
CLOSED = "The engine was closed."
_LAST_STEP_SECONDS = 10.0


@runtime_checkable
class Adaptation(Protocol):
    """What a sequence is run with beside the weights."""

    @property
    def handle(self) -> object:
        """The runner's own."""

    @property
    def digest(self) -> bytes:
        """At most 64 bytes; equal ones, and no others, share prefixes."""


class Runner(Protocol):
    """What computes. Owner: the engine thread, from the first step to ``close``."""

    @property
    def block_size(self) -> int: ...

    @property
    def num_blocks(self) -> int: ...

    @property
    def speculation(self) -> bool:
        """Whether drafts are worth making; if not, no item has any."""

    def step(self, batch: Batch) -> SampledTokens:
        """Run a batch; one entry for each item, in order, empty where no sample was due. Releases the GIL."""

    def close(self) -> None:
        """Free the weights and the KV memory. Called once; no step comes after it."""


class Stream:
    """A sequence's tokens on their way to one reader. Owner: the event loop.

    A reader who is slower than the engine finds what has piled up as one step, so memory is bounded by the tokens.
    """

    def __init__(self, sequence: Sequence, cancel: Callable[[Sequence], None]) -> None:
        self._sequence = sequence
        self._cancel = cancel
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._made_ns: int | None = None
        self._end: TokenStep | None = None
        self._ready = asyncio.Event()
        self._cancelled = False
        self._exhausted = False

    def __aiter__(self) -> AsyncIterator[TokenStep]:
        return self

    async def __anext__(self) -> TokenStep:
        if self._exhausted:
            raise StopAsyncIteration
        await self._ready.wait()
        self._ready.clear()
        self._exhausted = self._end is not None
        end = self._end or TokenStep(())
        tokens, logprobs = tuple(self._token_ids), tuple(self._logprobs)
        step = replace(end, token_ids=tokens, logprobs=logprobs, made_ns=self._made_ns)
        self._token_ids.clear()
        self._logprobs.clear()
        return step

    @property
    def vector(self) -> bytes | None:
        """Of a sequence that is pooled, once it has ended; ``None`` if it is not finite."""
        return self._sequence.vector

    def cancel(self) -> None:
        if self._cancelled or self._end is not None:
            return
        self._cancelled = True
        self._cancel(self._sequence)

    def push(self, step: TokenStep) -> None:
        """Take in what a step of the engine gave. Nothing comes after an end."""
        if self._end is not None:
            return
        if step.token_ids and not self._token_ids:
            self._made_ns = time.monotonic_ns()
        self._token_ids.extend(step.token_ids)
        self._logprobs.extend(step.logprobs)
        if step.finish_reason is not None:
            self._end = step
        self._ready.set()


class NativeEngine:
    """Implements :class:`minivault.engine.engine.Engine`.

    Serves one event loop at a time: the one that submits. When that loop is gone, so are its readers; what still runs
    for them is cancelled, and the next loop that submits takes over.
    """

    def __init__(
        self,
        runner: Runner,
        info: EngineInfo,
        *,
        max_batch_tokens: int = 512,
        max_running: int = 64,
        max_waiting: int = 256,
        prefix_cache: bool = True,
    ) -> None:
        """Takes over ``runner`` and starts the engine thread; ``close`` ends it and frees the runner."""
        kv_cache = KVCache(runner.num_blocks, runner.block_size, prefix_cache=prefix_cache)
        self.info = replace(info, kv_cache_tokens=kv_cache.capacity)
        self.embedder: Embedder | None = None
        """Set once, by whoever builds the engine, where it embeds too."""
        # Values, and who hands them over: any thread may read, and none but the one named may replace them.
        self._limits = Limits(
            info.context_length,
            kv_cache.capacity,
            max_batch_tokens,
            max_running,
            max_waiting,
            MAX_DECODE_ROWS if runner.speculation else 0,
        )
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # calls for the engine thread to make
        self._stats = EngineStats(running=0, waiting=0, kv_cache_usage=0.0)  # by the engine thread, after each step
        self._refusal: str | None = None  # why nothing more is taken; by the engine thread, once
        self._failure: BaseException | None = None  # what broke it; by the engine thread, once
        # Owner: the event loop.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[int, Stream] = {}
        self._in_room: set[int] = set()  # those streams that count against max_running + max_waiting
        self._ids = count()
        # Owner: the engine thread.
        self._runner = runner
        self._scheduler = Scheduler(kv_cache, self._limits)
        self._stopping = False

        # A daemon, for a process that forgets to close shall still be able to end.
        self._thread = threading.Thread(target=self._run, name="minivault-engine", daemon=True)
        self._thread.start()
        # A thread that comes back from the core after Python has ended would abort the process.
        atexit.register(self._end)

    # -- on the event loop

    @property
    def failure(self) -> BaseException | None:
        """What broke the engine, if anything did."""
        return self._failure

    def submit(self, request: EngineRequest) -> Stream:
        """Queue a sequence and return at once; see :meth:`minivault.engine.engine.Engine.submit`."""
        if self._refusal is not None:
            raise EngineFailed(self._refusal)
        self._adopt(asyncio.get_running_loop())
        self._limits.max_length(len(request.prompt_token_ids), request.sampling.max_tokens)
        if min(request.prompt_token_ids) < 0 or max(request.prompt_token_ids) >= self.info.vocab_size:
            raise InvalidRequest(f"Token ids must be from 0 to {self.info.vocab_size - 1}.", param="prompt")
        if not request.pooling:  # why not those: one call has many, was admitted once, and bounds them itself
            self._limits.check_room(len(self._in_room))
        sequence = Sequence(
            id=next(self._ids),
            token_ids=list(request.prompt_token_ids),
            params=request.sampling,
            eos_token_ids=request.eos_token_ids,
            cache_salt=request.cache_salt,
            fairness_key=request.fairness_key,
            constraint=request.constraint,
            pooling=request.pooling,
            normalized=request.normalized,
        )
        if isinstance(request.adapter, Adaptation):
            sequence.adapter, sequence.adapter_digest = request.adapter.handle, request.adapter.digest
        stream = self._streams[sequence.id] = Stream(sequence, self._cancel)
        if not request.pooling:
            self._in_room.add(sequence.id)
        self._inbox.put(partial(self._scheduler.add, sequence))
        return stream

    def adapt(self, pack: Callable[[Any], T]) -> T:
        """What ``pack`` makes of the core, on any thread, while steps go on.

        Raises:
            EngineFailed: the engine has stopped, or its runner takes no adapters.
        """
        core = getattr(getattr(self, "_runner", None), "core", None)
        if core is None or self._refusal is not None:
            raise EngineFailed(self._refusal or CLOSED)
        return pack(core)

    def stats(self) -> EngineStats:
        stats = self._stats
        return replace(stats, waiting=max(stats.waiting, len(self._streams) - stats.running))

    async def close(self) -> None:
        """Fail what still runs, stop the thread, free the memory. Returns when all is done; may be called again."""
        self._inbox.put(self._stop)
        await asyncio.to_thread(self._thread.join)
        atexit.unregister(self._end)

    def _end(self) -> None:
        self._inbox.put(self._stop)
        self._thread.join(_LAST_STEP_SECONDS)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("The engine serves another event loop.")
        for stream in self._streams.values():
            stream.cancel()
        self._streams.clear()
        self._in_room.clear()
        self._loop = loop

    def _cancel(self, sequence: Sequence) -> None:
        # At once: its call is over, and whoever takes its place comes behind it in the inbox.
        self._in_room.discard(sequence.id)
        self._inbox.put(partial(self._drop, sequence))

    def _dispatch(self, outputs: list[tuple[int, TokenStep]]) -> None:
        for sequence_id, step in outputs:
            stream = self._streams.get(sequence_id)
            if stream is None:
                continue  # of a loop that is gone
            stream.push(step)
            if step.finish_reason is not None:
                del self._streams[sequence_id]
                self._in_room.discard(sequence_id)

    def _dispatch_end(self, message: str) -> None:
        end = TokenStep((), finish_reason=FinishReason.FAILED, error=message)
        for stream in self._streams.values():
            stream.push(end)
        self._streams.clear()
        self._in_room.clear()

    # -- on the engine thread

    def _run(self) -> None:
        message = CLOSED
        try:
            while self._receive():
                self._step()
        except BaseException as error:  # also a panic of a library in another language: nobody may be left waiting
            logger.exception("The engine broke.")
            self._failure = error
            message = BROKEN
        finally:
            # Order: refuse first, then end what was taken in. A submit that came in between is among the streams then.
            self._refusal = message
            self._stats = replace(self._stats, running=0, waiting=0, kv_cache_usage=0.0)
            self._send(partial(self._dispatch_end, message))
            self._free_runner()

    def _step(self) -> None:
        batch = self._scheduler.schedule()
        tokens = self._runner.step(batch)
        outputs = self._scheduler.update(batch, tokens)
        self._deliver([(sequence.id, step) for sequence, step in outputs])

    def _receive(self) -> bool:
        """Make the calls in the inbox, asleep while there is nothing else to do; False when it is time to stop."""
        while not self._stopping:
            try:
                call = self._inbox.get(block=self._scheduler.is_idle)
            except queue.Empty:
                break
            call()
        return not self._stopping

    def _drop(self, sequence: Sequence) -> None:
        step = self._scheduler.cancel(sequence)
        if step is not None:
            self._deliver([(sequence.id, step)])

    def _stop(self) -> None:
        self._stopping = True

    def _deliver(self, outputs: list[tuple[int, TokenStep]]) -> None:
        # Order: figures first, so that who has seen the end of a stream sees it in the figures too.
        self._stats = self._scheduler.stats()
        if outputs and not self._send(partial(self._dispatch, outputs)):
            # Nobody is left to read. Whoever comes next has their sequences in the inbox, not in the scheduler yet.
            for sequence in self._scheduler.live():
                self._scheduler.cancel(sequence)
            self._stats = self._scheduler.stats()

    def _send(self, call: Callable[[], None]) -> bool:
        """Have the event loop make a call; False when the loop is gone."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return False
        return True

    def _free_runner(self) -> None:
        try:
            self._runner.close()
        except Exception:
            logger.exception("The runner could not be closed.")
        del self._runner
