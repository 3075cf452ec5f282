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
    off = distance(word, name)
    if off <= (0 if len(word) < 3 else 1 if len(word) < 6 else 2):
        return off
    return _LONGEST if len(word) >= _SHORTEST_PART and name.startswith(word) else None


def distance(one: str, other: str) -> int:
    """Letters put in, left out, changed, or swapped with the next one, to make ``other`` of ``one``."""
    rows = [list(range(len(other) + 1))]
    for at, letter in enumerate(one, 1):
        row = [at]
        for place, wanted in enumerate(other, 1):
            best = min(rows[-1][place] + 1, row[-1] + 1, rows[-1][place - 1] + (letter != wanted))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == wanted:
                best = min(best, rows[-2][place - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
