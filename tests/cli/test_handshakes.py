"""Handshakes of TLS: each is counted and timed from its first moment, and the oldest gives way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minivault.cli.handshakes import HandshakeLimits, Handshakes
from minivault.cli.server import tls_of
from minivault.settings import Settings
from tests.cli.test_tls import make_pair
from tests.fakes import until

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo(asyncio.Protocol):
    """Says back what it is told."""

    def __init__(self, connections: set[object]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)


class ShortOnce(socket.socket):
    """A listener of a system that has no descriptor the first time."""

    tried = False

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.tried:
            self.tried = True
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@dataclass
class Door:
    port: int
    trusted: Path
    handshakes: Handshakes
    connections: set[object]
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def silent(self) -> Pair:
        """A connection that says nothing."""
        return await self._opened(None)

    async def speaking(self) -> Pair:
        return await self._opened(ssl.create_default_context(cafile=self.trusted))

    async def _opened(self, context: ssl.SSLContext | None) -> Pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self._stack.callback(writer.close)
        return reader, writer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def opened(
    pair: tuple[Path, Path], limits: HandshakeLimits, listener: socket.socket | None = None
) -> AsyncIterator[Door]:
    context = tls_of(Settings(tls_cert=pair[0], tls_key=pair[1]))
    assert context is not None
    connections: set[object] = set()
    handshakes = Handshakes(context, limits, lambda: Echo(connections), connections)
    with listener or socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        accepting = asyncio.ensure_future(handshakes.accept(bound))
        door = Door(bound.getsockname()[1], pair[0], handshakes, connections)
        try:
            async with door._stack:
                yield door
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            await until(lambda: not handshakes and not connections)


async def echoed(pair: Pair) -> bytes:
    reader, writer = pair
    writer.write(b"hi")
    return await reader.readexactly(2)


async def test_the_oldest_that_says_nothing_gives_way_to_one_who_speaks(pair: tuple[Path, Path]) -> None:
    async with opened(pair, HandshakeLimits(60, 5, connections=9, handshakes=3)) as door:
        silent = [await door.silent() for _ in range(3)]
        await until(lambda: len(door.handshakes) == 3)
        assert await echoed(await door.speaking()) == b"hi"
        assert await silent[0][0].read() == b""
        assert len(door.handshakes) == 2


async def test_who_says_nothing_is_cut_in_time(pair: tuple[Path, Path]) -> None:
    async with opened(pair, HandshakeLimits(0.05, 5, connections=9)) as door:
        reader, _ = await door.silent()
        assert await reader.read() == b""
        await until(lambda: not door.handshakes)


async def test_what_is_no_tls_is_cut(pair: tuple[Path, Path]) -> None:
    async with opened(pair, HandshakeLimits(60, 5, connections=9)) as door:
        reader, writer = await door.silent()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await until(lambda: not door.handshakes)


async def test_handshakes_and_connections_together_are_bounded(pair: tuple[Path, Path]) -> None:
    async with opened(pair, HandshakeLimits(60, 5, connections=2)) as door:
        first, second = await door.speaking(), await door.speaking()
        await until(lambda: len(door.connections) == 2 and not door.handshakes)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await door.speaking()
        assert [await echoed(first), await echoed(second)] == [b"hi", b"hi"]


async def test_a_shortage_of_descriptors_is_told_and_waited_for(
    pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "minivault.tls"):
        async with opened(pair, HandshakeLimits(60, 5, connections=9), ShortOnce()) as door:
            assert await echoed(await door.speaking()) == b"hi"
    assert "No connection can be accepted: Too many open files" in caplog.text
