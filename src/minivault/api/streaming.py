"""Chunks to bytes on the wire: Server-Sent Events, JSON lines or plain text; one event is one write.

The frames are joined by hand around one escaped string, so that a token costs microseconds. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from minivault.api.problems import Problem, problem_of
from minivault.api.wire import native
from minivault.generation import Chunk, Completion
from minivault.one_line import in_one_line, quoted
from minivault.service import Generation
from minivault.telemetry.logging import describe_error, get_logger

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
PLAIN = "text/plain"
JSON = "application/json"

STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

T = TypeVar("T")
Failure = Callable[[Problem], bytes]
logger = get_logger(__name__)


class _Gone(Exception):
    """The client is gone: nothing can be sent any more."""


class Abandonable(Protocol):
    """Work that may be given up by the one who asked for it."""

    def abandon(self) -> None: ...


class Running(Protocol):
    """A generation, or several as one: see :class:`Generation` and :class:`Choices` of the service."""

    def chunks(self) -> AsyncGenerator[Chunk]: ...
    def abandon(self) -> None: ...
    def close(self) -> None: ...


class Framing(Protocol):
    """How one stream is written. Made for one stream; may count. Each item is one event and one write; an empty one
    is none."""

    media_type: str

    def first(self) -> list[bytes]:
        """Events that open the stream, sent once the intent is durable."""

    def pieces(self, chunk: Chunk) -> list[bytes]:
        """The events of a chunk that has text."""

    def last(self, completion: Completion) -> list[bytes]:
        """The closing events of an answer; of several, that of each, and the last call ends the stream."""

    def failure(self, problem: Problem) -> bytes | None:
        """The event of a failure; ``None`` where only cutting the connection can tell."""


class SseFraming:
    """``data: {"token": ..., "index": N}``, and ``data: [DONE]`` after the last."""

    media_type = SSE

    def __init__(self, token_bytes: native.TokenBytes | None = None) -> None:
        self._token_bytes = token_bytes
        self._index = 0

    def first(self) -> list[bytes]:
        return []

    def pieces(self, chunk: Chunk) -> list[bytes]:
        extra = _logprobs_member(chunk, self._token_bytes)
        event = f'data: {{"token": {quoted(chunk.text)}, "index": {self._index}{extra}}}\n\n'
        self._index += 1
        return [event.encode()]

    def last(self, completion: Completion) -> list[bytes]:
        event = {"token": "", "index": self._index} | _closing(completion)
        return [b"data: " + _json(event) + b"\n\n", b"data: [DONE]\n\n"]

    def failure(self, problem: Problem) -> bytes:
        return sse_failure(problem)


class NdjsonFraming:
    """``{"response": ...}`` a line; the last has ``done``."""

    media_type = NDJSON

    def __init__(self, token_bytes: native.TokenBytes | None = None) -> None:
        self._token_bytes = token_bytes

    def first(self) -> list[bytes]:
        return []

    def pieces(self, chunk: Chunk) -> list[bytes]:
        extra = _logprobs_member(chunk, self._token_bytes)
        return [f'{{"response": {quoted(chunk.text)}{extra}}}\n'.encode()]

    def last(self, completion: Completion) -> list[bytes]:
        return [_json({"response": "", "done": True} | _closing(completion)) + b"\n"]

    def failure(self, problem: Problem) -> bytes:
        return _json(problem.body()) + b"\n"


class PlainFraming:
    """The bytes of the response and nothing else."""

    media_type = PLAIN

    def first(self) -> list[bytes]:
        return []

    def pieces(self, chunk: Chunk) -> list[bytes]:
        return [chunk.text.encode()]

    def last(self, completion: Completion) -> list[bytes]:
        return []

    def failure(self, problem: Problem) -> None:
        return None


def framing_for(media_type: str, generation: Generation) -> Framing:
    token_bytes = generation.token_bytes if generation.wants_logprobs else None
    if media_type == SSE:
        return SseFraming(token_bytes)
    return NdjsonFraming(token_bytes) if media_type == NDJSON else PlainFraming()


class GenerationStream(Response):
    """Sends a generation as it comes. A client that hangs up cancels it; a failure is told in the framing's way."""

    def __init__(self, generation: Running, framing: Framing, headers: Mapping[str, str]) -> None:
        # No body is given to the base class, so it sets no content-length.
        self.status_code = 200
        self.media_type = framing.media_type
        self.background = None
        self.init_headers({**headers, **STREAM_HEADERS})
        self._generation = generation
        self._framing = framing

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        content_type = f"{self.media_type}; charset=utf-8" if self.media_type != SSE else SSE
        named = {"content-type": content_type, **(headers or {})}
        self.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _telling_who_goes(send)
        try:
            async with cancelled_by_disconnect(receive, self._generation):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if await self._send_events(send):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        except _Gone:
            self._generation.abandon()
        finally:
            self._generation.close()

    def close(self) -> None:
        """Nobody will send it: see :meth:`Running.close`."""
        self._generation.close()

    async def _send_events(self, send: Send) -> bool:
        """Return whether the body may be ended; if not, the connection is cut by leaving it open-ended."""
        try:
            await _send(send, self._framing.first())
            async with aclosing(self._generation.chunks()) as chunks:
                async for chunk in chunks:
                    completion = chunk.completion
                    frames = self._framing.pieces(chunk) if completion is None else self._framing.last(completion)
                    await _send(send, frames)
        except _Gone:
            raise
        except Exception as error:
            problem = _noted(error)
            told = self._framing.failure(problem)
            if told is None:
                return False
            await _send(send, [told])
        return True


class WaitingStream(Response):
    """Server-Sent Events of an answer that is still being opened, for its model loads: comments until then, so that
    neither client nor proxy takes it for dead, and then what it says."""

    def __init__(self, opening: asyncio.Task[Response], interval: float, failure: Failure) -> None:
        self.status_code = 200
        self.media_type = SSE
        self.background = None
        self.init_headers(STREAM_HEADERS)
        self._opening = opening
        self._interval = interval
        self._failure = failure

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        named = {"content-type": SSE, **(headers or {})}
        self.raw_headers = [(name.encode(), value.encode()) for name, value in named.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not self._opening.done():
                await _send(send, [b": waiting for the model\n\n"])
                await asyncio.wait((self._opening,), timeout=self._interval)
        except BaseException as error:
            _give_up(self._opening)
            if isinstance(error, OSError):
                return  # the server's word for: the client is gone
            raise
        await self._opened(scope, receive, send)

    async def _opened(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        try:
            answer = self._opening.result()
        except Exception as error:
            problem = _noted(error)
            await _send(send, [self._failure(problem)])
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await answer(scope, receive, send_on)


async def kept_alive(request: Request, answer: Coroutine[Any, Any, Response], failure: Failure) -> Response:
    """``answer``, which opens a stream of events; if that takes long, a stream that says so meanwhile.

    ``failure`` gives the event of an error: once the stream has begun, there is no other way to tell.
    """
    opening = asyncio.ensure_future(answer)
    interval = request.app.state.settings.sse_keep_alive
    try:
        await asyncio.wait((opening,), timeout=interval or None)
    except asyncio.CancelledError:
        _give_up(opening)
        raise
    return opening.result() if opening.done() else WaitingStream(opening, interval, failure)


def sse_failure(problem: Problem) -> bytes:
    """The event of an error on the native surface."""
    return b"data: " + _json(problem.body()) + b"\n\n"


def _noted(error: Exception) -> Problem:
    """What ends a stream that has begun, told to the log too: the status that is written there was sent long ago."""
    problem = problem_of(error)
    if problem.status == 500:
        logger.error("stream failed", **describe_error(error))
    else:
        logger.warning("stream ended early", status=problem.status, code=problem.code)
    return problem


def _give_up(task: asyncio.Task[Any]) -> None:
    task.add_done_callback(_close_what_was_opened)
    task.cancel()


async def _send(send: Send, frames: list[bytes]) -> None:
    for frame in frames:
        if frame:
            await send({"type": "http.response.body", "body": frame, "more_body": True})


def _telling_who_goes(send: Send) -> Send:
    """``send``, which raises :class:`_Gone` once the client is gone. The server's word for it is an ``OSError``, which
    what makes the answer may raise too."""

    async def told(message: Message) -> None:
        try:
            await send(message)
        except OSError:
            raise _Gone from None

    return told


@asynccontextmanager
async def cancelled_by_disconnect(receive: Receive, generation: Abandonable) -> AsyncIterator[None]:
    """Abandon ``generation`` when the client hangs up within the block. The request's body must have been read."""

    async def listen() -> None:
        await _disconnected(receive)
        generation.abandon()

    listener = asyncio.get_running_loop().create_task(listen())
    try:
        yield
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do ``work``, which may wait for a model, but give it up when the client hangs up. The body must have been read.

    What it gives, if anything, can be closed.

    Raises:
        Problem: 499, which nobody reads.
    """
    task = asyncio.ensure_future(work)
    listener = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((task, listener), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        _give_up(task)
        raise
    finally:
        listener.cancel()
    if task.done():
        return task.result()
    _give_up(task)
    raise Problem(499, "The client has gone.", code="client_gone")


def _close_what_was_opened(task: asyncio.Future[Any]) -> None:
    """Of work that came to its end although nobody waits for it any more."""
    opened = None if task.cancelled() or task.exception() is not None else task.result()
    if opened is not None and hasattr(opened, "close"):
        opened.close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _closing(completion: Completion) -> dict[str, Any]:
    return {
        "usage": native.usage_of(completion),
        "finish_reason": completion.finish_reason.value,
        "seed": completion.seed,
        "record": native.record_of(completion),
    }


def _logprobs_member(chunk: Chunk, token_bytes: native.TokenBytes | None) -> str:
    if token_bytes is None:
        return ""
    return f', "logprobs": {in_one_line(native.logprobs_of(chunk.logprobs, token_bytes))}'


def _json(value: Mapping[str, Any]) -> bytes:
    return in_one_line(value).encode()
