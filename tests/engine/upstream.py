"""A server with a script: it speaks just enough HTTP to answer as an OpenAI-compatible server does, or fails to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[["Asked", asyncio.StreamWriter], Any]
"""Answers one request; what it awaits is its script."""


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class ScriptedUpstream:
    """Serves ``script`` in order, one reply a POST, the last one again and again."""

    script: list[Reply]
    asked: list[Asked] = field(default_factory=list)
    models_status: int = 200
    port: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody closed a connection before the answer ended."""
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [asked.body for asked in self.asked if asked.method == "POST"]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read(reader)
            self.asked.append(asked)
            if asked.method == "GET":
                await _send_json(writer, self.models_status, {"object": "list", "data": []})
            else:
                reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await self._unless_hung_up(reply(asked, writer), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            writer.close()

    async def _unless_hung_up(self, answering: Any, reader: asyncio.StreamReader) -> None:
        answer, gone = asyncio.ensure_future(answering), asyncio.ensure_future(reader.read(1))
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.hung_up.set()
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


@asynccontextmanager
async def serving(*script: Reply) -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(list(script) or [says("hello")])
    server = await asyncio.start_server(upstream.handle, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.server = server
    try:
        yield upstream
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    first = (await reader.readline()).decode().split()
    if not first:
        raise ConnectionError
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(first[0], first[1], headers, json.loads(data) if data else None)


async def _send_json(writer: asyncio.StreamWriter, status: int, value: Any, headers: str = "") -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + data)
    await writer.drain()


async def send_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    await writer.drain()


async def send_event(writer: asyncio.StreamWriter, event: Mapping[str, Any] | str) -> None:
    data = event if isinstance(event, str) else json.dumps(event)
    writer.write(f"data: {data}\n\n".encode())
    await writer.drain()


def delta(said: Mapping[str, Any], reason: str | None = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": dict(said), "finish_reason": reason, **choice}]}


def says(*pieces: str, reason: str = "stop", usage: tuple[int, int] | None = (11, 3)) -> Reply:
    """A whole answer in these pieces."""
    ends = [delta({}, reason)]
    if usage is not None:
        ends.append({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
    return events(delta({"role": "assistant", "content": ""}), *(delta({"content": piece}) for piece in pieces), *ends)


def events(*sent: Mapping[str, Any] | str, done: bool = True) -> Reply:
    """These events, and ``[DONE]`` unless the connection just ends."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await send_head(writer)
        writer.write(b": a comment\n\n")
        for event in (*sent, *(("[DONE]",) if done else ())):
            await send_event(writer, event)

    return reply


def refuses(status: int, value: Any = None, *, headers: Sequence[str] = ()) -> Reply:
    """An answer other than 200."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        error = {"error": {"message": "the prompt was: secret"}} if value is None else value
        await _send_json(writer, status, error, "".join(f"{header}\r\n" for header in headers))

    return reply


def waits_for(gate: asyncio.Event, reply: Reply, *, after: Sequence[Mapping[str, Any]] = ()) -> Reply:
    """With ``after``, these events come before the wait; then the rest of ``reply``'s own."""

    async def waiting(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if after:
            await send_head(writer)
            for event in after:
                await send_event(writer, event)
        await gate.wait()
        await reply(asked, writer)

    return waiting


async def garbles(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer whose compressed body cannot be decoded."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + b"not gzip at all")
    await writer.drain()


async def hangs_up(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    writer.transport.abort()
