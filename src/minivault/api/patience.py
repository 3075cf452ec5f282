"""Waiting, as those wait who go on for as long as a server runs: for a disk, for a while, until it closes.

Knows nothing of what is waited for. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from minivault.errors import LedgerUnavailable
from minivault.telemetry.logging import describe_error, get_logger

LONGEST_WAIT = 60.0
DISK_WAIT = 5.0

logger = get_logger(__name__)


class Patience:
    """Of one server, which ends when that closes; or a part of it."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._parts: WeakSet[Patience] = WeakSet()

    @property
    def ended(self) -> bool:
        """The server closes: nothing is begun any more."""
        return self._closing.is_set()

    def end(self) -> None:
        self._closing.set()
        for part in list(self._parts):
            part.end()

    def part(self) -> Patience:
        """One that ends with this one, or before it."""
        part = Patience()
        self._parts.add(part)
        if self.ended:
            part.end()
        return part

    async def wait(self, seconds: float) -> None:
        """At most a minute; over at once at the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), min(seconds, LONGEST_WAIT))

    async def reached(self, doing: Coroutine[Any, Any, object], undo: Callable[[], None]) -> bool:
        """Whether it was done before the end. If not, it is cancelled; what it came to all the same is undone."""
        task, over = asyncio.ensure_future(doing), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not self.ended:
                task.result()
                return True
        except BaseException:
            _take_back(task, undo)
            raise
        finally:
            over.cancel()
        _take_back(task, undo)
        return False

    async def done(self, doing: Awaitable[object]) -> bool:
        """Whether it was done; false after a wait where the disk did not let it. It is then to be tried again, unless
        the patience is at its end."""
        try:
            await doing
        except (LedgerUnavailable, ExceptionGroup) as raised:
            error = _of_the_disk(raised)
            if error is None:
                raise
            logger.warning("batch waits for the disk", **describe_error(error))
            await self.wait(DISK_WAIT if error.retry_after is None else error.retry_after)
            return False
        return True


def _take_back(task: asyncio.Future[object], undo: Callable[[], None]) -> None:
    task.cancel()
    task.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo())


def _of_the_disk(error: Exception) -> LedgerUnavailable | None:
    """The error, or one of a group's; ``None`` if there are others."""
    if isinstance(error, ExceptionGroup):
        found = [_of_the_disk(one) for one in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, LedgerUnavailable) else None
