"""When the lines of a batch get their turns: behind live work, in the places that all batches of a server share.

A place is held for a try alone: a line that waits for anything else lets the lines of others pass. Knows nothing of
what a try is. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from minivault.api.patience import LONGEST_WAIT, Patience
from minivault.errors import LedgerUnavailable

CALM_SECONDS = 0.05
"""Between looks at whether live work leaves room."""


class Turns:
    """Of one batch."""

    def __init__(
        self,
        places: asyncio.Semaphore,
        patience: Patience,
        is_calm: Callable[[], bool],
        may_go_on: Callable[[], Awaitable[bool]],
    ) -> None:
        """``patience``: this batch's own; it ends with the server's, or with :meth:`end`."""
        self._places = places
        self._patience = patience
        self._is_calm = is_calm
        self._may_go_on = may_go_on

    def end(self) -> None:
        """No further turn: who waits for one, or between two, is told at once. Tries that run come to their ends."""
        self._patience.end()

    async def go_on(self) -> bool:
        """Whether there may be a further turn."""
        if self._patience.ended:
            return False
        try:
            return await self._may_go_on()
        except LedgerUnavailable:  # who takes the turn finds that out too, and waits
            return True

    async def wait(self, seconds: float) -> None:
        """Between two tries, without a place. Over at once when the batch goes no further."""
        while seconds > 0 and await self.go_on():
            await self._patience.wait(seconds)
            seconds -= LONGEST_WAIT

    @asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """A place for one try, and whether it may still be made."""
        if not await self._patience.reached(self._places.acquire(), self._places.release):
            yield False
            return
        try:
            await self._until_calm()
            yield await self.go_on()
        finally:
            self._places.release()

    async def _until_calm(self) -> None:
        """Wait while live work waits for a place in the engine."""
        while not self._is_calm() and not self._patience.ended:  # noqa: ASYNC110
            await asyncio.sleep(CALM_SECONDS)
