"""Accepts connections that speak TLS, and counts each from its first moment: nobody keeps a place by saying nothing.

Python's event loop tells of a connection only once its handshake is over, and until then nobody would count it or limit
its time. Knows nothing of HTTP, or of what is said once the handshake is over.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from minivault.outage import Outage

MOST_HANDSHAKES = 256
"""At a time. A client that means it is done after two round trips; when one more comes, the oldest has to go."""
_REST_SECONDS = 0.1
"""Before the next is accepted, when the system has no descriptor for it."""

_shortage = Outage(
    logging.getLogger("minivault.tls"), "No connection can be accepted", "Connections can be accepted again."
)


@dataclass(frozen=True, slots=True)
class HandshakeLimits:
    """Times in seconds."""

    handshake: float
    """For all of it."""
    ending: float
    """For what was written to be taken, and for the other side's farewell."""
    connections: int
    """All of them, handshakes among them."""
    handshakes: int = MOST_HANDSHAKES


class Handshakes:
    """Owner: the event loop."""

    def __init__(
        self,
        context: ssl.SSLContext,
        limits: HandshakeLimits,
        made: Callable[[], asyncio.Protocol],
        connections: Collection[object],
    ) -> None:
        """``made`` gives the protocol of a connection whose handshake is over; ``connections`` are all of those."""
        self._context = context
        self._limits = limits
        self._made = made
        self._connections = connections
        self._under_way: dict[asyncio.Task[None], None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._under_way)

    async def accept(self, listener: socket.socket) -> None:
        """Take what comes, without end. When it is cancelled, so are the handshakes under way."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(listener)
                except ConnectionError:
                    continue  # it went before it was taken
                except OSError as error:
                    _shortage.fails(error.strerror or type(error).__name__)
                    self._cut_oldest()
                    await asyncio.sleep(_REST_SECONDS)
                    continue
                _shortage.works()
                self._begin(accepted)
        finally:
            for task in self._under_way:
                task.cancel()

    def _begin(self, accepted: socket.socket) -> None:
        if self._is_full() and not self._cut_oldest():
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(self._shake(accepted))
        self._under_way[task] = None
        task.add_done_callback(self._ended)

    def _is_full(self) -> bool:
        under_way = len(self._under_way)
        return under_way >= self._limits.handshakes or under_way + len(self._connections) >= self._limits.connections

    def _cut_oldest(self) -> bool:
        """Whether there was one."""
        oldest = next(iter(self._under_way), None)
        if oldest is None:
            return False
        del self._under_way[oldest]
        oldest.cancel()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)

    async def _shake(self, accepted: socket.socket) -> None:
        # Whoever spoke no TLS, or not in time, is cut off, and there is nobody to tell.
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._made,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake,
                ssl_shutdown_timeout=self._limits.ending,
            )
