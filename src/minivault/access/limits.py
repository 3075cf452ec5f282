"""How much a client may ask for: moving-window rate limits by the ``limits`` library, exact under parallel load.

Knows nothing of HTTP: it is asked about a key, and answers with a verdict. The clock is passed in.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from limits import RateLimitItem, parse_many
from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter

from minivault.errors import ConfigError

_SWEEP_EVERY = 1024


class WindowStorage(Storage, MovingWindowSupport):
    """In-process storage for moving windows. Owned by one event loop: nothing here awaits between reading and
    writing, so a hit is atomic without a lock. (The library's own memory storage forgets entries from a thread,
    and takes the time from the machine.)"""

    STORAGE_SCHEME = ["async+window"]  # noqa: RUF012 - the library's registry reads it as such

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._entries: dict[str, deque[float]] = {}
        self._expiries: dict[str, int] = {}
        self._asked = 0

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        self._sweep_now_and_then()
        entries = self._fresh(key, expiry)
        if len(entries) + amount > limit:
            return False
        entries.extend([self._clock()] * amount)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """The window's start (the oldest entry's time) and how many entries it holds."""
        self._sweep_now_and_then()
        entries = self._fresh(key, expiry)
        return (entries[0] if entries else self._clock()), len(entries)

    def _fresh(self, key: str, expiry: int) -> deque[float]:
        entries = self._entries.setdefault(key, deque())
        self._expiries[key] = expiry
        horizon = self._clock() - expiry
        while entries and entries[0] <= horizon:
            entries.popleft()
        return entries

    def _sweep_now_and_then(self) -> None:
        """Forget clients that have been quiet for a window, so that memory follows the active ones."""
        self._asked += 1
        if self._asked % _SWEEP_EVERY:
            return
        for key in [key for key in self._entries if not self._fresh(key, self._expiries[key])]:
            del self._entries[key], self._expiries[key]

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        raise NotImplementedError("only moving windows are kept here")

    async def get(self, key: str) -> int:
        return len(self._entries.get(key, ()))

    async def get_expiry(self, key: str) -> float:
        entries = self._entries.get(key)
        return entries[0] + self._expiries[key] if entries else self._clock()

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        held = len(self._entries)
        self._entries.clear()
        self._expiries.clear()
        return held

    async def clear(self, key: str) -> None:
        self._entries.pop(key, None)
        self._expiries.pop(key, None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what the tightest window holds after it."""

    allowed: bool
    limit: int
    """Requests a window."""
    window: int
    """Seconds."""
    remaining: int
    reset: float
    """Seconds until the oldest request of the window is forgotten."""

    @property
    def retry_after(self) -> int:
        """Whole seconds, rounded up, at least 1."""
        return max(1, math.ceil(self.reset))


class RateLimiter:
    """Requests per key. ``spec`` is such as ``5/minute`` or ``600/minute; 20/second``; empty means no limit."""

    def __init__(self, spec: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._items = _parse(spec)
        self._strategy = MovingWindowRateLimiter(WindowStorage(clock))

    @property
    def enabled(self) -> bool:
        return bool(self._items)

    async def hit(self, key: str) -> Verdict | None:
        """Count one request of ``key``; ``None`` when there is no limit. A refused request is not counted."""
        # No await below suspends, so nothing comes between the test and the hit.
        for item in self._items:
            if not await self._strategy.test(item, key):
                return await self._verdict(item, key, allowed=False)
        verdicts = []
        for item in self._items:
            await self._strategy.hit(item, key)
            verdicts.append(await self._verdict(item, key, allowed=True))
        return min(verdicts, key=lambda verdict: verdict.remaining, default=None)

    async def _verdict(self, item: RateLimitItem, key: str, *, allowed: bool) -> Verdict:
        stats = await self._strategy.get_window_stats(item, key)
        reset = max(0.0, stats.reset_time - self._clock())
        return Verdict(allowed, item.amount, item.get_expiry(), max(0, stats.remaining), reset)


def _parse(spec: str) -> list[RateLimitItem]:
    if not spec.strip():
        return []
    try:
        items = parse_many(spec)
    except ValueError:
        items = []
    if not items or any(item.amount < 1 for item in items):
        raise ConfigError(
            "rate_limit: expected requests per window, such as 5/minute or 600/minute; empty for no limit",
            param="rate_limit",
        )
    return sorted(items)
