"""Which server takes the next request: a healthy one with the least to do. Who finds none free waits in turn.

Knows nothing of requests. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

from minivault.engine.remote.upstream import LEAST_WAIT, Upstream
from minivault.errors import Overloaded


class Router:
    """Gives out places at servers, and takes them back."""

    def __init__(self, upstreams: Sequence[Upstream], health_interval: float) -> None:
        self._upstreams = tuple(upstreams)
        self._health_interval = health_interval
        self._turns: deque[object] = deque()
        self._changed = asyncio.Event()
        self._last = -1

    @property
    def waiting(self) -> int:
        return len(self._turns)

    async def acquire(self, tried: Collection[Upstream] = ()) -> Upstream:
        """A place at a server that was not ``tried``; :meth:`release` it.

        Raises:
            Overloaded: there is none that could take a request.
        """
        turn = object()
        self._turns.append(turn)
        try:
            while True:
                found = self._free(tried)
                # Who was refused elsewhere has waited already.
                if found is not None and (tried or self._turns[0] is turn):
                    found.in_flight += 1
                    return found
                await self._changed.wait()
        finally:
            self._turns.remove(turn)
            self.changed()

    def release(self, upstream: Upstream) -> None:
        upstream.in_flight -= 1
        self.changed()

    def changed(self) -> None:
        """Have everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _free(self, tried: Collection[Upstream]) -> Upstream | None:
        usable = [upstream for upstream in self._upstreams if upstream not in tried and upstream.is_usable]
        if not usable:
            raise self._refusal()
        free = [upstream for upstream in usable if upstream.is_free]
        if not free:
            return None
        # Of those with equally little to do, the one whose turn it is.
        count = len(self._upstreams)
        places = {upstream: place for place, upstream in enumerate(self._upstreams)}
        chosen = min(free, key=lambda one: (one.in_flight, (places[one] - self._last - 1) % count))
        self._last = places[chosen]
        return chosen

    def _refusal(self) -> Overloaded:
        waits = [upstream.waits for upstream in self._upstreams if upstream.healthy and upstream.waits > 0]
        if waits:
            return Overloaded("The upstream servers are busy.", retry_after=max(LEAST_WAIT, min(waits)))
        return Overloaded("No upstream server can be reached.", retry_after=self._health_interval)
