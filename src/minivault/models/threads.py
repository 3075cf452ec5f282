"""Threads for the work that comes before an answer, apart from those in which everything else waits for disks.

asyncio's own threads are few and are for all: a scan of the vault or a checksum over a model's files may hold each of
them for seconds. What a request needs before it runs has threads of its own here, one pool a kind of work, so that no
kind holds up another; and its time is counted from when a thread begins it. Knows nothing of what the work is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Final, NamedTuple, TypeVar

from minivault.errors import MiniVaultError, Overloaded

THREADS: Final = max(2, min(8, os.cpu_count() or 2))
"""Of one pool. More would only share the cores."""
PATIENCE_SECONDS: Final = 10.0
"""How long work may wait for a thread."""

T = TypeVar("T")


class Limit(NamedTuple):
    """How long work may take, and what its caller gets to hear if it takes longer."""

    seconds: float
    error: MiniVaultError


class Threads:
    """A pool for one kind of work, from any event loop. Its threads start when they are needed, and end at
    :meth:`close` or with the process, which waits for work that has begun. The line before them is as long as callers
    make it: the service admits only so many requests."""

    def __init__(self, name: str, count: int = THREADS, patience: float = PATIENCE_SECONDS) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"minivault-{name}")
        self._patience = patience

    async def do(self, work: Callable[[], T], limit: Limit | None = None) -> T:
        """What ``work`` gives, or raises. Work that has begun goes on to its end, whether anybody waits or not.

        Raises:
            Overloaded: no thread was free for too long; the work was not begun.
            MiniVaultError: the limit's, if the work takes longer from when a thread begins it.
        """
        loop = asyncio.get_running_loop()
        begun, context = asyncio.Event(), copy_context()

        def begin() -> T:
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(begun.set)
            return context.run(work)

        submitted = self._pool.submit(begin)
        result = asyncio.wrap_future(submitted)
        try:
            await _until(begun, self._patience)
            if not begun.is_set() and submitted.cancel():
                raise Overloaded("Too many requests are being prepared.", retry_after=self._patience)
            done, _ = await asyncio.wait((result,), timeout=limit and limit.seconds)
            if not done and limit is not None:
                raise limit.error
        except BaseException:
            result.cancel()  # takes the work out of the line, if it is still there
            raise
        return await result

    def close(self) -> None:
        """Take no more work, drop what has not begun, and wait for the rest."""
        self._pool.shutdown(cancel_futures=True)


async def _until(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
