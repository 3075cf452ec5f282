"""The end of a caller's patience: how long a request may take, and what happens then. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from minivault.errors import DeadlineExceeded, MiniVaultError


class Abortable(Protocol):
    def abort(self, error: MiniVaultError) -> None: ...


def too_late(seconds: float) -> DeadlineExceeded:
    """``seconds``: what it had, which is told without an exponent, in whole millionths and at least one."""
    said = f"{max(seconds, 1e-6):.6f}".rstrip("0").rstrip(".")
    return DeadlineExceeded(f"The request took longer than the {said} seconds that it had.")


def least(*limits: float | None) -> float | None:
    """The tightest of several limits in seconds; ``None`` and 0 are none."""
    return min((limit for limit in limits if limit), default=None)


def remaining(limit: float | None, begun_ns: int, now_ns: int) -> float | None:
    return None if limit is None else max(0.0, limit - (now_ns - begun_ns) / 1e9)


@asynccontextmanager
async def within(limit: float | None, seconds: float | None = None) -> AsyncIterator[None]:
    """``seconds``: what is left of ``limit``, where some of it has passed.

    Raises:
        DeadlineExceeded: the block took longer than ``limit`` seconds.
    """
    block = asyncio.timeout(limit if seconds is None else seconds)
    try:
        async with block:
            yield
    except TimeoutError:
        if limit is None or not block.expired():
            raise
        raise too_late(limit) from None


def abort_after(work: Abortable, limit: float, seconds: float) -> asyncio.TimerHandle:
    """Abort ``work``, whose limit is ``limit``, so many seconds from now. Cancel this when the work has ended."""
    return asyncio.get_running_loop().call_later(seconds, lambda: work.abort(too_late(limit)))
