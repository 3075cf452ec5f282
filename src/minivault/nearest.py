"""Which known names somebody may have meant by one that is not there. Knows nothing of what the names stand for."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 3
_LONGEST = 100
_SHORTEST_PART = 4
"""Characters of a beginning that count as meant."""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Up to three of ``known``, the closest first: one or two letters off, or the beginning of the name. Empty where
    nothing is really close, for a wrong guess is worse than none."""
    asked = word.lower()[:_LONGEST]
    ranked = sorted((rank, name) for name in known if (rank := _rank(asked, name.lower())) is not None)
    return [name for _, name in ranked[:MOST]]


def _rank(word: str, name: str) -> int | None:
    most = 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    off = distance(word, name, most)
    if off is not None:
        return off
    return _LONGEST if len(word) >= _SHORTEST_PART and name.startswith(word) else None


def distance(one: str, other: str, most: int) -> int | None:
    """Letters put in, left out, changed, or swapped with the next one, to make ``other`` of ``one``; ``None`` if they
    are more than ``most``. Takes time in proportion to one length times ``most``."""
    if abs(len(one) - len(other)) > most:
        return None
    far = most + 1
    before: dict[int, int] = {}
    last = {place: place for place in range(min(len(other), most) + 1)}
    for at, letter in enumerate(one, 1):
        row: dict[int, int] = {}
        for place in range(max(0, at - most), min(len(other), at + most) + 1):
            best = min(last.get(place, far), row.get(place - 1, far)) + 1
            if place:
                best = min(best, last.get(place - 1, far) + (letter != other[place - 1]))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == other[place - 1]:
                best = min(best, before.get(place - 2, far) + 1)
            row[place] = best
        before, last = last, row
    found = last.get(len(other), far)
    return found if found <= most else None
