"""What is still to be settled in a storage that does not always answer: tried again until it has been, or until the
windows have passed.

Knows nothing of what the storage is: it is given a way to send, which says whether it worked. The clock is passed in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from minivault.access.windows import Window

MOST_WAITING = 10_000
"""Kept in memory. Of takes that nobody saw the end of, half as many: those that were seen are known to be counted."""
LATE_SECONDS = 3600
"""How long a take may still be on its way after the one who sent it has given up. No connection waits so long."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was taken as ``amount`` under the name ``entry`` came to ``used``."""

    windows: tuple[Window, ...]
    amount: int
    used: int
    entry: str
    seen: bool = True
    """False: nobody saw how the take ended. It may not have been made, or be made only after this."""

    @property
    def seconds(self) -> float:
        """For how long there may be something to settle."""
        return max((window.seconds for window in self.windows), default=0) + (0 if self.seen else LATE_SECONDS)


class Settlements:
    """Sent one after the other, in no certain order. Owned by one event loop."""

    def __init__(
        self, send: Callable[[Settlement], Awaitable[bool]], dropped: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """``send``: whether it was settled; may be asked to settle the same again, and must not raise. ``dropped`` is
        called where one is not kept, because too many are."""
        self._send = send
        self._dropped = dropped
        self._clock = clock
        self._waiting: deque[tuple[float, Settlement]] = deque()
        """With the time from which on there is nothing left to settle."""
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, settlement: Settlement) -> None:
        """Settle it soon. Never raises."""
        if self._closed or len(self._waiting) >= (MOST_WAITING if settlement.seen else MOST_WAITING // 2):
            self._dropped()
            return
        self._waiting.append((self._clock() + settlement.seconds, settlement))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def settled(self) -> None:
        """Returns when none is left."""
        if self._worker is not None:
            await asyncio.shield(self._worker)

    async def close(self, patience: float) -> int:
        """Take no more, try for so many seconds, and give the rest up: how many those are."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker], timeout=patience)
            self._worker.cancel()
            await asyncio.wait([self._worker])
        return len(self._waiting)

    async def _work(self) -> None:
        pause = FIRST_PAUSE
        while self._waiting:
            until, settlement = self._waiting[0]
            if self._clock() >= until or await self._send(settlement):
                self._waiting.popleft()
                pause = FIRST_PAUSE
                continue
            self._waiting.rotate(-1)  # one that never works holds up no other
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def unseen(windows: Sequence[Window], amount: int, entry: str) -> Settlement:
    """Of a take that was broken off: whether it was made or not, nothing was used."""
    return Settlement(tuple(windows), amount, 0, entry, seen=False)
