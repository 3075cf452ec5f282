"""How much files and batches may hold together, while several uploads come at the same time.

An upload takes its room before its first byte where it says how long it is, and else as its bytes come; so what all of
them write together stays within the bound. Knows nothing of forms, or of how files are kept. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from minivault.api.problems import Problem
from minivault.errors import RateLimited

MAX_UPLOADS = 8
"""Of one client at the same time."""
BUSY_RETRY_SECONDS = 5


class Room:
    """The bound, and what uploads under way hold of it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stored = 0
        """As of the last look, with what uploads have added since."""
        self._held = 0
        self._turn = asyncio.Lock()
        self._uploads: Counter[str] = Counter()

    @asynccontextmanager
    async def upload(self, client: str, stored: Callable[[], int], declared: int) -> AsyncIterator[Share]:
        """The share of an upload, for as long as it is under way: :meth:`held` of what the client declares, 0 bytes
        where it does not say.

        Raises:
            Problem: 413, there is no room.
            RateLimited: the client has too many under way.
        """
        if self._uploads[client] >= MAX_UPLOADS:
            error = RateLimited(f"At most {MAX_UPLOADS} uploads may be under way.", retry_after=BUSY_RETRY_SECONDS)
            error.code, error.limit = "too_many_uploads", "concurrent"
            raise error
        self._uploads[client] += 1
        try:
            async with self.held(stored, declared) as share:
                yield share
        finally:
            self._uploads -= Counter((client,))

    @asynccontextmanager
    async def held(self, stored: Callable[[], int], size: int) -> AsyncIterator[Share]:
        """A share of ``size`` bytes, which may grow, until the block ends. ``stored`` is blocking.

        Raises:
            Problem: 413, there is no room.
        """
        share = Share(self)
        try:
            async with self._turn:
                self._stored = await asyncio.to_thread(stored)
                share.hold(size)
            yield share
        finally:
            self._held -= share.held

    def _check(self, more: int) -> None:
        if self._stored + self._held + more > self._most:
            raise Problem(
                413,
                f"Files, and the lines of batches that have not ended, may have {self._most} bytes together: delete "
                "some files, or wait until a batch has ended.",
                code="storage_full",
                headers={"connection": "close"},
            )


class Share:
    """What one of those that write holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._taken = 0
        self.held = 0

    def take(self, size: int) -> None:
        """So many bytes have come.

        Raises:
            Problem: 413, there is no room for them.
        """
        self._taken += size
        self.hold(self._taken - self.held)

    def hold(self, more: int) -> None:
        if more > 0:
            self._room._check(more)
            self._room._held += more
            self.held += more

    async def keep(self, finish: Callable[[], int]) -> None:
        """Make it last: ``finish`` is blocking and gives the size, which counts from now on as stored."""
        async with self._room._turn:
            self._room._stored += await asyncio.to_thread(finish)
            self._room._held -= self.held
            self.held = 0
