"""A real socket before the application, and a client that may behave badly on it. Knows nothing of routes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from minivault.api.cross_origin import CrossOrigin
from minivault.cli.connection import ConnectionLimits, bounded
from tests.fakes import until

SMALL_BUFFER = 16 << 10


class Server(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def listening(
    app: Any, limits: ConnectionLimits, cross_origin: CrossOrigin | None = None, **config: Any
) -> AsyncIterator[int]:
    """``app`` on a port of its own, which this gives."""
    settings = uvicorn.Config(
        app,
        port=0,
        http=bounded(limits, cross_origin),
        log_config=None,
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=5,
        **config,
    )
    server = Server(settings)
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    listener = server.servers[0].sockets[0]
    # Small, so that a client that does not read is noticed early; what is accepted inherits it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1 << 10)
    try:
        yield reader, writer
    finally:
        writer.close()


def posted(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A request as its bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", *headers]
    lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
