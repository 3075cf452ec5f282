"""How much of something each may have, so that nobody takes it all: who wants much leaves some for who wants little.

Knows nothing of what it is, or of who they are. Owned by the event loop.
"""

from __future__ import annotations

from collections import Counter


class Shares:
    """So much of something for all together.

    Who has nothing of it gets what is free. Who has some may get more while what is free after it is in the proportion
    to it that what is kept has to the rest. So one alone comes to all but what is kept; two who want all come to nearly
    half each, with a little left for who is next.
    """

    def __init__(self, most: int, kept: int) -> None:
        self.taken = 0
        self._most = most
        self._kept = kept
        self._held: Counter[str] = Counter()

    @property
    def alone(self) -> int:
        """What one may have where nobody else has anything."""
        return self._most - self._kept

    def has_room(self, amount: int) -> bool:
        """Whether so much is free, for whomever."""
        return self.taken + amount <= self._most

    def fits(self, holder: str, amount: int) -> bool:
        """Whether ``holder`` may have so much more."""
        held, left = self._held[holder], self._most - self.taken - amount
        return left >= 0 and (not held or (held + amount) * self._kept <= self.alone * left)

    def take(self, holder: str, amount: int) -> None:
        self.taken += amount
        self._held[holder] += amount

    def give(self, holder: str, amount: int) -> None:
        """Back."""
        self.taken -= amount
        self._held[holder] -= amount
        if not self._held[holder]:
            del self._held[holder]
