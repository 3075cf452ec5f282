"""Waiting for something to change, where each who waits looks for itself. Knows nothing of what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Owned by the event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something changed: wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._next.wait()
