"""Servers that speak OpenAI's API, as one engine: routed, retried before the first token alone, cancelled, measured.

Knows nothing of records or surfaces. Owned by the event loop of the first request; :meth:`RemoteEngine.close` ends it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import httpx2

from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStep
from minivault.engine.remote import wire
from minivault.engine.remote.router import Router
from minivault.engine.remote.upstream import Fault, Upstream
from minivault.errors import EngineFailed, MiniVaultError, Overloaded
from minivault.generation import FinishReason
from minivault.models.remote_config import RemoteConfig

logger = logging.getLogger("minivault.engine")

NO_LIMIT = 1 << 31
"""Tokens of context, where nobody says how many there are."""
CLOSED = "The engine was closed."
ENDLESS = "The upstream server does not keep to max_tokens."
_PATIENCE, _SLACK = 4, 64
"""How far beyond ``max_tokens`` an answer may go, in pieces: a token may come in several."""
_PIECE_BYTES, _MOST_ANSWER_BYTES = 16 << 10, 64 << 20
"""What the pieces of an answer may take on the way, with all that is said of each: so many bytes each, on the average,
and so many in all."""

Work: TypeAlias = Callable[["RemoteStream"], Coroutine[Any, Any, None]]


class RemoteStream:
    """One answer on its way. Owned by the event loop. Implements ``TokenStream`` and ``Answering``."""

    def __init__(self, work: Work) -> None:
        self._steps: asyncio.Queue[TokenStep | MiniVaultError] = asyncio.Queue()
        self._began = asyncio.Event()
        self._error: MiniVaultError | None = None
        self._ended = False
        self._exhausted = False
        self.has_tokens = False
        self._unread = 0
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self.task.add_done_callback(self._done)

    def __aiter__(self) -> RemoteStream:
        return self

    async def __anext__(self) -> TokenStep:
        if self._exhausted:
            raise StopAsyncIteration
        step = await self._steps.get()
        if isinstance(step, MiniVaultError):
            self._exhausted = True
            raise step
        self._exhausted = step.finish_reason is not None
        self._unread -= len(step.token_ids)
        return step

    def unread(self) -> int:
        """See :class:`minivault.engine.engine.Answering`."""
        return self._unread

    async def accepted(self) -> None:
        """See :class:`minivault.engine.engine.Answering`."""
        await self._began.wait()
        if self._error is not None and self._steps.qsize() == 1:
            self._exhausted = True
            raise self._error

    def cancel(self) -> None:
        if not self._ended:
            self.task.cancel()

    def begin(self) -> None:
        """The server has taken the request."""
        self._began.set()

    def put(self, step: TokenStep) -> None:
        self._ended = self._ended or step.finish_reason is not None
        self.has_tokens = self.has_tokens or bool(step.token_ids)
        self._unread += len(step.token_ids)
        self._steps.put_nowait(step)

    async def _run(self, work: Work) -> None:
        try:
            await work(self)
        except MiniVaultError as error:
            self._error = error
        except Exception:
            logger.exception("A request to an upstream server broke.")
            self._error = EngineFailed("The request to the upstream server broke; the log of the server says how.")

    def _done(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before it ran has no end of its own.
        if self._error is not None:
            self._steps.put_nowait(self._error)
        elif not self._ended:
            self.put(TokenStep((), finish_reason=FinishReason.CANCELLED))
        self._began.set()


class RemoteEngine:
    """Implements :class:`minivault.engine.engine.Engine` for requests in words."""

    failure: BaseException | None = None

    def __init__(
        self,
        config: RemoteConfig,
        *,
        api_key: str | None = None,
        max_waiting: int = 256,
        trusted: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens no connection yet. ``trusted``: whose certificates are believed, if not those that are anywhere."""
        self.info = EngineInfo(
            name="remote",
            build="openai-v1",
            arithmetic="unknown",
            exact=False,
            context_length=config.context_length or NO_LIMIT,
            vocab_size=NO_LIMIT,
            speaks_text=True,
        )
        self._config = config
        self._max_waiting = max_waiting
        places = config.max_in_flight * len(config.urls)
        self._client = httpx2.AsyncClient(
            # why identity: a few compressed bytes could become any number
            headers={"content-type": "application/json", "accept-encoding": "identity"}
            | ({"authorization": f"Bearer {api_key}"} if api_key else {}),
            timeout=httpx2.Timeout(None, connect=config.connect_timeout),
            limits=httpx2.Limits(max_connections=places + 2 * len(config.urls)),
            trust_env=False,  # why: only the servers that were named are spoken to
            verify=True if trusted is None else trusted,
        )
        self._upstreams = tuple(Upstream(url, config, self._client, clock) for url in config.urls)
        self._router = Router(self._upstreams, config.health_interval)
        self._streams: set[RemoteStream] = set()
        self._health: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, request: EngineRequest) -> RemoteStream:
        """Send a request on and return at once; see :meth:`minivault.engine.engine.Engine.submit`."""
        if self._closed:
            raise EngineFailed(CLOSED)
        if self._router.waiting >= self._max_waiting:
            raise Overloaded("The queue for the upstream servers is full.", retry_after=1)
        self.watch()
        stream = RemoteStream(lambda answer: self._answer(request, answer))
        self._streams.add(stream)
        stream.task.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    def watch(self) -> None:
        """Begin to look after the servers' health. Idempotent."""
        if self._health is None:
            # In a context of its own: it outlives the request that happens to be the first, whose id lines would bear.
            self._health = asyncio.get_running_loop().create_task(self._watch(), context=contextvars.Context())

    async def check_health(self) -> None:
        """Ask every server whether it is well."""
        await asyncio.gather(*(upstream.check() for upstream in self._upstreams))
        self._router.changed()

    def stats(self) -> EngineStats:
        """As of now. Who asks wants to know whether the servers are well: from here on that is looked after."""
        with suppress(RuntimeError):  # why: a thread without an event loop may ask too
            if not self._closed:
                self.watch()
        running = sum(upstream.in_flight for upstream in self._upstreams)
        known = tuple(upstream.stats() for upstream in self._upstreams)
        return EngineStats(running=running, waiting=self._router.waiting, kv_cache_usage=0.0, upstreams=known)

    async def close(self) -> None:
        self._closed = True
        tasks = [stream.task for stream in self._streams] + ([] if self._health is None else [self._health])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _watch(self) -> None:
        while True:
            await self.check_health()
            await asyncio.sleep(self._config.health_interval)

    async def _answer(self, request: EngineRequest, stream: RemoteStream) -> None:
        """Have a server answer; another one if that fails before its first token.

        Raises:
            MiniVaultError: none did.
        """
        tried: list[Upstream] = []
        last: Fault | None = None
        while True:
            upstream = await self._next(tried, last)
            if tried:
                tried[-1].retried += 1
            tried.append(upstream)
            try:
                await self._ask(upstream, request, stream)
            except Fault as fault:
                upstream.failed(fault)
                if not fault.elsewhere or stream.has_tokens:
                    raise fault.error from None
                last = fault
            else:
                return
            finally:
                self._router.release(upstream)

    async def _ask(self, upstream: Upstream, request: EngineRequest, stream: RemoteStream) -> None:
        asked, words = request.asked, request.words
        if asked is None or words is None:
            raise EngineFailed("A model on another server takes requests in words alone.")
        reading = wire.Reading(words, request.sampling.stop)
        most = _PATIENCE * (request.sampling.max_tokens or 1) + _SLACK

        def take(event: Mapping[str, Any]) -> bool:
            before, step = reading.count, reading.push(event)
            if step is not None:
                stream.put(step)
            if reading.count > most:
                raise EngineFailed(ENDLESS)
            return reading.count > before

        body = wire.body_of(asked, request.sampling, self._config.upstream_model)
        size = min(most * _PIECE_BYTES, _MOST_ANSWER_BYTES)
        await upstream.ask(wire.path_of(asked), body, stream.begin, take, size)
        try:
            stream.put(reading.finish())
        except EngineFailed as error:
            raise Fault(error, elsewhere=True) from None

    async def _next(self, tried: list[Upstream], last: Fault | None) -> Upstream:
        try:
            return await self._router.acquire(tried)
        except Overloaded:
            if last is not None:
                raise last.error from None
            raise
