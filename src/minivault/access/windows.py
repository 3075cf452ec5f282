"""Moving windows: how much of something was used in the last so many seconds, exactly, in this process.

An entry is a time and an amount, so that a thousand tokens are one entry; and an amount can be settled afterwards, when
it turns out what was really used. Knows nothing of who is limited, or of HTTP. The clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

_SWEEP_EVERY = 1024


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` in any ``seconds``, counted under ``key``."""

    key: str
    limit: int
    seconds: int


@dataclass(frozen=True, slots=True)
class WindowState:
    """What a window holds after a :meth:`WindowStorage.take`."""

    used: int
    reset: float
    """Seconds until the oldest entry is forgotten; of the window that refused, until the amount would fit."""


@dataclass(frozen=True, slots=True)
class Take:
    """``refused_by``: the place of the window that had no room; ``None`` when all took the amount."""

    states: tuple[WindowState, ...]
    refused_by: int | None = None


class WindowStorage(Protocol):
    """Where windows are kept."""

    async def take(self, windows: Sequence[Window], amount: int, entry: str) -> Take:
        """Put ``amount`` into all windows under the name ``entry``, or into none. Nothing comes in between. An amount
        of 0 is put nowhere, and tells what there is.

        Raises:
            LimitsUnavailable: it cannot be counted.
        """

    def settle(self, windows: Sequence[Window], amount: int, used: int, entry: str) -> None:
        """What was taken as ``amount`` came to ``used``. May end later; never raises."""

    async def check(self) -> None:
        """
        Raises:
            LimitsUnavailable: nothing can be counted now.
        """

    async def close(self) -> None:
        """Returns when all is settled."""


@dataclass(slots=True)
class _Entry:
    time: float
    amount: int


@dataclass(slots=True)
class _Held:
    seconds: int
    entries: dict[str, _Entry] = field(default_factory=dict)
    """Oldest first: a dict keeps the order of insertion, and the clock does not go back."""
    used: int = 0


class MemoryWindows:
    """Windows of one server. Owned by one event loop: nothing here awaits, so a take is atomic without a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._asked = 0

    async def take(self, windows: Sequence[Window], amount: int, entry: str) -> Take:
        self._sweep_now_and_then()
        now = self._clock()
        held = [self._fresh(window, now) for window in windows]
        pairs = list(zip(windows, held, strict=True))
        refused = next((place for place, (window, one) in enumerate(pairs) if one.used + amount > window.limit), None)
        if refused is not None:
            window, one = pairs[refused]
            states = [WindowState(kept.used, _reset(kept, now)) for kept in held]
            states[refused] = WindowState(one.used, _room_in(one, one.used + amount - window.limit, now))
            return Take(tuple(states), refused)
        for one in held if amount else ():
            one.entries[entry] = _Entry(now, amount)
            one.used += amount
        return Take(tuple(WindowState(one.used, _reset(one, now)) for one in held))

    def settle(self, windows: Sequence[Window], amount: int, used: int, entry: str) -> None:
        for window in windows:
            held = self._held.get(window.key)
            taken = held.entries.get(entry) if held is not None else None
            if held is None or taken is None:
                continue  # forgotten: its window has passed
            held.used += used - taken.amount
            taken.amount = used
            if used == 0:
                del held.entries[entry]

    async def check(self) -> None:
        """Memory always counts."""

    async def close(self) -> None:
        self._held.clear()

    def __len__(self) -> int:
        return len(self._held)

    def _fresh(self, window: Window, now: float) -> _Held:
        held = self._held.setdefault(window.key, _Held(window.seconds))
        _forget(held, now)
        return held

    def _sweep_now_and_then(self) -> None:
        """Forget clients that have been quiet for a window, so that memory follows the active ones."""
        self._asked += 1
        if self._asked % _SWEEP_EVERY:
            return
        now = self._clock()
        for key, held in list(self._held.items()):
            _forget(held, now)
            if not held.entries:
                del self._held[key]


def _forget(held: _Held, now: float) -> None:
    horizon = now - held.seconds
    old = []
    for name, entry in held.entries.items():
        if entry.time > horizon:
            break
        old.append(name)
    for name in old:
        held.used -= held.entries.pop(name).amount


def _reset(held: _Held, now: float) -> float:
    return _room_in(held, 1, now) if held.entries else 0.0


def _room_in(held: _Held, missing: int, now: float) -> float:
    """Seconds until ``missing`` more are free."""
    freed = 0
    last = now
    for entry in held.entries.values():
        freed += entry.amount
        last = entry.time + held.seconds
        if freed >= missing:
            break
    return max(0.0, last - now)
