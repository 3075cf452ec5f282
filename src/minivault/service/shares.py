"""How much of something each may have, so that nobody takes it all: who wants much leaves some for who wants little.

Knows nothing of what it is, or of who they are. Owned by the event loop.
"""

from __future__ import annotations

from collections import Counter


class Shares:
    """So much of something for all together.

    Who has nothing of it gets what is free, and so does ``None``, nobody in particular. Who has some may get more while
    what is free after it is in the proportion to it that what is kept has to the rest. So one alone comes to all but
    what is kept; two who want all come to nearly half each, with a little left for who is next.
    """

    def __init__(self, most: int, kept: int) -> None:
        self.taken = 0
        self._most = most
        self._kept = kept
        self._held: Counter[str | None] = Counter()

    def alone(self, holder: str | None) -> int:
        """What ``holder`` may have where nobody else has anything."""
        return self._most if holder is None else self._most - self._kept

    def has_room(self, amount: int) -> bool:
        """Whether so much is free, for whomever."""
        return self.taken + amount <= self._most

    def fits(self, holder: str | None, amount: int) -> bool:
        """Whether ``holder`` may have so much more."""
        held, left = self._held[holder], self._most - self.taken - amount
        if holder is None or not held:
            return left >= 0
        return left >= 0 and (held + amount) * self._kept <= (self._most - self._kept) * left

    def take(self, holder: str | None, amount: int) -> None:
        self.taken += amount
        self._held[holder] += amount

    def give(self, holder: str | None, amount: int) -> None:
        """Back."""
        self.taken -= amount
        self._held[holder] -= amount
        if not self._held[holder]:
            del self._held[holder]
