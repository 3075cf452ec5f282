"""How often a line of a batch is tried, and when again.

Each try that got as far as the vault is a record with the whole prompt in it, so there are few of those, further and
further apart. A try that was refused before costs nothing, and is made for as long as the batch may take. Knows nothing
of how a line is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from minivault.api.line_answers import Answer
from minivault.api.patience import LONGEST_WAIT
from minivault.api.problems import Problem
from minivault.errors import CheckpointCorrupt, CheckpointError, UnsupportedCheckpoint, VaultCorrupt

TRANSIENT = (429, 499, 503)
"""Statuses that say nothing of a line: it is tried again."""
LASTING = frozenset(kind.code for kind in (CheckpointError, CheckpointCorrupt, UnsupportedCheckpoint, VaultCorrupt))
"""Codes of what has such a status too, and does not pass by itself."""
MOST_RECORDED = 5
"""Tries of a line that the vault has, of this process and those before it."""
FIRST_WAIT, GROWTH = 10.0, 6
"""Seconds after the first try that left a record, and how many times longer each further wait is: 10 seconds to 36
minutes, three quarters of an hour in all."""


@dataclass(slots=True)
class Tries:
    """Of one line, in this process."""

    number: int = 1
    """Of the next one, among those that the vault has."""
    counted: bool = False
    """It is in its key's window of requests: once, however often it is tried."""
    _refused: int = 0

    @property
    def over(self) -> bool:
        return self.number > MOST_RECORDED

    def wait_after(self, answer: Answer, *, recorded: bool) -> float | None:
        """Seconds until the next try; ``None`` if there is none: the answer is the line's.

        ``recorded``: the try left a record.
        """
        if answer.status not in TRANSIENT or answer.code in LASTING:
            return None
        if recorded:
            wait = FIRST_WAIT * GROWTH ** (self.number - 1)
            self.number += 1
            return None if self.over else max(answer.retry_after, wait)
        if answer.status == 429:  # a limit, which knows when there is room; it may be widened before
            return min(answer.retry_after, LONGEST_WAIT)
        self._refused = min(self._refused + 1, 8)
        return min(max(answer.retry_after, 2.0 ** (self._refused - 1)), LONGEST_WAIT)


def too_many() -> Problem:
    """What a line comes to whose tries other processes have used up: no answer of theirs is left to give."""
    message = f"The line was begun {MOST_RECORDED} times and never came to an answer. The vault has the calls."
    return Problem(503, message, code="too_many_tries")
