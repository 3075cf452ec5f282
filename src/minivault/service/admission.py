"""How much work may wait, and when to come back if it is too much: counts, and the pace at which calls end.

Knows nothing of models, of the vault or of HTTP. Owned by the event loop; the clock is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minivault.errors import InvalidRequest, Overloaded
from minivault.service.shares import Shares

REMEMBERED_ENDS = 64
RECENT_NS = 30 * 10**9
LEAST_SECONDS, MOST_SECONDS = 1.0, 300.0
FIRST_GUESS_SECONDS = 5.0
"""While no call has ended that could be measured."""


class Pace:
    """How fast calls end, and so how long the next free place is away."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._ends: deque[int] = deque(maxlen=REMEMBERED_ENDS)
        self._refused: deque[int] = deque(maxlen=10_000)

    def ended(self) -> None:
        self._ends.append(self._now_ns())

    def refused(self) -> float:
        """Count a call that found no place. Seconds until one is likely to be free for it.

        Those refused lately will come back too: each gets a place of its own in the line.
        """
        now = self._now_ns()
        wait = self._seconds_for_a_place(now)
        horizon = now - int(min(MOST_SECONDS, max(LEAST_SECONDS, wait * REMEMBERED_ENDS)) * 1e9)
        while self._refused and self._refused[0] < horizon:
            self._refused.popleft()
        self._refused.append(now)
        if not self._ends:
            return wait  # a guess is not multiplied
        return min(MOST_SECONDS, max(LEAST_SECONDS, wait * len(self._refused)))

    def _seconds_for_a_place(self, now: int) -> float:
        while len(self._ends) > 1 and self._ends[0] < now - RECENT_NS:
            self._ends.popleft()
        if not self._ends:
            return FIRST_GUESS_SECONDS
        # The time since the last end counts too: a server that has come to a halt promises nothing.
        return max(1, now - self._ends[0]) / 1e9 / len(self._ends)


class Places:
    """Of requests that run and wait. An eighth is kept from a key that has many, or half of those that wait."""

    def __init__(self, running: int, waiting: int, pace: Pace) -> None:
        self._shares = Shares(running + waiting, min(max(1, (running + waiting) // 8), waiting // 2))
        self._pace = pace

    @property
    def taken(self) -> int:
        return self._shares.taken

    def enter(self, client: str | None, count: int) -> None:
        """Places for so many choices of one request. Then :meth:`leave`.

        Raises:
            InvalidRequest: one client never gets so many, so waiting would not help.
            Overloaded: there are none, or the last are kept for clients who have fewer.
        """
        if count > (most := self._shares.alone(client)):
            raise InvalidRequest(f"n: prompts times n may be {most} at most on this server", param="n")
        if not self._shares.fits(client, count):
            full = "full, but for what is kept for other clients" if self._shares.has_room(count) else "full"
            raise Overloaded(f"The queue is {full}.", retry_after=self._pace.refused())
        self._shares.take(client, count)

    def leave(self, client: str | None, count: int) -> None:
        self._shares.give(client, count)


@dataclass(eq=False, slots=True)
class Place:
    """Tokens of a prompt that waits for the model. Released once; by default it stands for none."""

    line: Line | None = None
    tokens: int = 0
    client: str | None = None

    def release(self) -> None:
        if self.line is not None:
            self.line.leave(self)
            self.line = None


class Line:
    """Prompts that wait, in tokens. An eighth is kept from a key that has many."""

    def __init__(self, most: int, pace: Pace) -> None:
        self._shares = Shares(most, most // 8)
        self._pace = pace

    @property
    def tokens(self) -> int:
        return self._shares.taken

    def enter(self, tokens: int, client: str | None) -> Place:
        """A place for a prompt of so many tokens. One that finds nobody waiting always gets it.

        Raises:
            Overloaded: too many tokens wait already, or as many of this client as it may have.
        """
        if self.tokens and not self._shares.fits(client, tokens):
            raise Overloaded("Too many tokens of prompts are waiting.", retry_after=self._pace.refused())
        self._shares.take(client, tokens)
        return Place(self, tokens, client)

    def leave(self, place: Place) -> None:
        self._shares.give(place.client, place.tokens)

    def require_room(self, tokens: Sequence[int], client: str | None) -> None:
        """That the prompts of one request's choices can be in the line together; one alone always can.

        Raises:
            InvalidRequest: they never can, so waiting would not help.
        """
        if len(tokens) > 1 and sum(tokens) > (most := self._shares.alone(client)):
            raise InvalidRequest(
                f"n: the prompts of all choices come to {sum(tokens)} tokens, of {most} that may wait",
                param="n",
            )
