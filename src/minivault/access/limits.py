"""How much a client may ask for: requests and tokens in moving windows, and requests at one time.

Exact under parallel load. Knows nothing of HTTP: it is asked about a client, and answers with a verdict. The clock is
passed in.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from minivault.access.specs import parse_spec
from minivault.access.windows import Take, Window, WindowStorage
from minivault.errors import ConfigError, InvalidRequest, RateLimited

Kind = Literal["requests", "tokens", "concurrent"]
BUSY_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something may pass, and what the tightest window holds after it."""

    allowed: bool
    limit: int
    """Requests or tokens a window."""
    window: int
    """Seconds; 0 of requests at one time, which have none."""
    remaining: int
    reset: float
    """Seconds until the oldest of the window is forgotten; of a refusal, until there is room."""

    @property
    def retry_after(self) -> int:
        """Whole seconds, rounded up, at least 1."""
        return max(1, math.ceil(self.reset))


class Limits:
    """What is counted for all clients. Owned by one event loop."""

    def __init__(self, storage: WindowStorage, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._reserved: dict[str, dict[str, tuple[float, int]]] = {}
        """Of each window, when requests of this server that still run reserved how much, by its name."""
        self._names = itertools.count()
        self._instance = secrets.token_hex(8)
        """Servers that share a storage must not share names."""

    async def take(self, windows: Sequence[Window], amount: int) -> tuple[Verdict, str]:
        """Take ``amount`` from all ``windows`` or from none; the verdict, and the name of what was taken.

        Raises:
            LimitsUnavailable: it cannot be counted.
        """
        name = f"{self._instance}-{next(self._names)}"
        return _verdict(windows, await self._storage.take(windows, amount, name)), name

    async def left(self, windows: Sequence[Window]) -> int:
        """What all ``windows`` have room for now. Nothing is taken.

        Raises:
            LimitsUnavailable: it cannot be counted.
        """
        states = (await self._storage.take(windows, 0, "")).states
        return max(0, min(window.limit - state.used for window, state in zip(windows, states, strict=True)))

    async def reserve(self, windows: Sequence[Window], amount: int) -> tuple[Verdict, str]:
        """As :meth:`take`, of what is not used yet: :meth:`settle` it."""
        verdict, name = await self.take(windows, amount)
        if verdict.allowed:
            for window in windows:
                self._reserved.setdefault(window.key, {})[name] = self._clock(), amount
        return verdict, name

    def reserved(self, window: Window) -> int:
        """What requests of this server that still run may use at most of what the window holds: it has forgotten what
        was reserved before its time."""
        since = self._clock() - window.seconds
        return sum(amount for at, amount in self._reserved.get(window.key, {}).values() if at > since)

    def settle(self, windows: Sequence[Window], amount: int, used: int, name: str) -> None:
        """What was reserved as ``amount`` came to ``used``."""
        for key in {window.key for window in windows}:
            held = self._reserved.get(key, {})
            held.pop(name, None)
            if not held:
                self._reserved.pop(key, None)
        if used != amount:
            self._storage.settle(windows, amount, used, name)

    async def check(self) -> None:
        """
        Raises:
            LimitsUnavailable: nothing can be counted now.
        """
        await self._storage.check()

    def enter(self, client: str, most: int) -> bool:
        """One request more of ``client`` begins, if fewer than ``most`` run; 0: any number. Then :meth:`leave`."""
        if most and self._running[client] >= most:
            return False
        self._running[client] += 1
        return True

    def leave(self, client: str) -> None:
        self._running[client] -= 1
        if self._running[client] <= 0:
            del self._running[client]

    async def close(self) -> None:
        await self._storage.close()


@dataclass(slots=True)
class Reservation:
    """Tokens that a generation may use. Settle it once, in any case."""

    limits: Limits | None = None
    windows: tuple[Window, ...] = ()
    amount: int = 0
    name: str = ""

    def settle(self, used: int) -> None:
        """The generation ended, having used so many tokens. Idempotent."""
        limits, self.limits = self.limits, None
        if limits is not None:
            limits.settle(self.windows, self.amount, used, self.name)


@dataclass(slots=True)
class Quota:
    """What one request may use. Made for the request; by default there is no limit."""

    client: str = ""
    requests: tuple[Window, ...] = ()
    tokens: tuple[Window, ...] = ()
    concurrent: int = 0
    limits: Limits | None = None
    verdicts: dict[Kind, Verdict] = field(default_factory=dict)
    """The newest of each kind; of requests at one time, only a refusal."""

    @classmethod
    def of(cls, limits: Limits, client: str, requests: str, tokens: str = "", concurrent: int = 0) -> Quota:
        """``requests`` and ``tokens`` are written as ``specs.py`` says."""
        return cls(
            client, _windows("requests", client, requests), _windows("tokens", client, tokens), concurrent, limits
        )

    async def admit(self) -> None:
        """Count a request.

        Raises:
            RateLimited: there were too many in a window. This one is not counted.
            LimitsUnavailable: it cannot be counted.
        """
        if not self.requests or self.limits is None:
            return
        verdict, _ = await self.limits.take(self.requests, 1)
        self.verdicts["requests"] = verdict
        if not verdict.allowed:
            raise RateLimited(
                f"Too many requests: {verdict.limit} in {verdict.window} seconds are allowed.",
                retry_after=verdict.reset,
            )

    async def reserve(self, amount: int, *, least: int | None = None, shares: int = 1, beside: int = 0) -> Reservation:
        """Take the most tokens that a generation can use, before it begins.

        ``beside``: what the same request takes at least for its other prompts and choices, before and after this one.

        ``least``: where nobody said how many it may be; what is left of ``amount`` is taken then, but no less than
        this, and a share of it alone where so many ``shares`` are still to be taken, with this one.

        Raises:
            InvalidRequest: it is more than a whole window has, so waiting would not help.
            RateLimited: there is no room now.
            LimitsUnavailable: it cannot be counted.
        """
        if not self.tokens or self.limits is None:
            return Reservation()
        tightest = min(self.tokens, key=lambda window: window.limit)
        if (at_least := (amount if least is None else least) + beside) > tightest.limit:
            raise _never(at_least, tightest, "max_tokens" if least is None else "prompt")
        if least is not None:
            amount = max(least, min(amount, await self.limits.left(self.tokens) // shares))
        verdict, name = await self.limits.reserve(self.tokens, amount)
        while not verdict.allowed and least is not None and amount > least:  # somebody else was faster
            amount = max(least, min(amount - 1, verdict.remaining // shares))
            verdict, name = await self.limits.reserve(self.tokens, amount)
        self.verdicts["tokens"] = verdict
        if not verdict.allowed:
            raise self._no_room(amount, verdict, self.limits)
        return Reservation(self.limits, self.tokens, amount, name)

    def enter(self) -> None:
        """The request begins; :meth:`leave` when it ends.

        Raises:
            RateLimited: too many run at one time.
        """
        if self.limits is not None and not self.limits.enter(self.client, self.concurrent):
            self.verdicts["concurrent"] = Verdict(False, self.concurrent, 0, 0, BUSY_RETRY_SECONDS)
            error = RateLimited(
                f"Too many requests at one time: {self.concurrent} may run.", retry_after=BUSY_RETRY_SECONDS
            )
            error.code, error.limit = "concurrency_limit_exceeded", "concurrent"
            raise error

    def leave(self) -> None:
        if self.limits is not None:
            self.limits.leave(self.client)

    def _no_room(self, amount: int, verdict: Verdict, limits: Limits) -> RateLimited:
        """What requests that still run may use at most, they will mostly not: then it is worth trying again soon."""
        held = max(limits.reserved(window) for window in self.tokens if window.seconds == verdict.window)
        soon = verdict.remaining + held >= amount
        beside = f" beside {held} that are held for requests that still run" if held else ""
        error = RateLimited(
            f"Too many tokens: {verdict.limit} in {verdict.window} seconds are allowed, {verdict.remaining} are "
            f"left{beside}, and this request may take {amount}.",
            retry_after=min(verdict.reset, BUSY_RETRY_SECONDS) if soon else verdict.reset,
        )
        error.limit = "tokens"
        return error


def require_sound(setting: str, spec: str) -> None:
    """
    Raises:
        ConfigError: the setting cannot be read as limits.
    """
    try:
        parse_spec(spec, setting)
    except InvalidRequest as error:
        raise ConfigError(error.message, param=setting) from None


def _never(amount: int, window: Window, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"{param}: the prompt and the answer may come to {amount} tokens, and this API key has "
        f"{window.limit} in {window.seconds} seconds",
        param=param,
    )


def _windows(kind: Kind, client: str, spec: str) -> tuple[Window, ...]:
    # The limit is no part of the key: one that is changed goes on from what was used.
    return tuple(Window(f"{kind}/{client}/{seconds}", limit, seconds) for limit, seconds in parse_spec(spec, kind))


def _verdict(windows: Sequence[Window], take: Take) -> Verdict:
    pairs = list(zip(windows, take.states, strict=True))
    if take.refused_by is not None:
        window, state = pairs[take.refused_by]
    else:
        window, state = min(pairs, key=lambda pair: pair[0].limit - pair[1].used)
    return Verdict(
        take.refused_by is None, window.limit, window.seconds, max(0, window.limit - state.used), state.reset
    )
