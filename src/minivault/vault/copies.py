"""Replays and repeats: calls that hold the content of another one anew, as their records name it. What is erased of a
call must go from them too.

A replay's intent names the intent that it ran again (``replay_of``), a repeat's the outcome that it was answered from
(``from_record``); ``calls.copy_of`` is that number. Knows nothing of how content is erased.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from minivault.vault.database import Connection

MOST: Final = 192
"""Copies that one erasure takes besides the calls asked for: a bound on how long it holds up other records."""
PAGE: Final = 64
"""Copies looked at in one step."""
_NAMES: Final = ("replay_of", "from_record")
_REACHED: Final = """
WITH RECURSIVE reached (intent) AS (
    SELECT value FROM json_each(?)
    UNION
    SELECT copy.intent_index FROM reached
    CROSS JOIN calls AS whole ON whole.intent_index = reached.intent
    CROSS JOIN calls AS copy ON copy.copy_of IN (whole.intent_index, whole.outcome_index)
)
SELECT intent, outcome_index IS NOT NULL FROM reached CROSS JOIN calls ON intent_index = intent
WHERE store = 1 AND erased_index IS NULL ORDER BY intent
"""
_PAGE: Final = """
SELECT copy.copy_of, copy.intent_index,
       copy.store = 1 AND copy.erased_index IS NULL AND EXISTS (
           SELECT 1 FROM calls AS whole
           WHERE (whole.intent_index = copy.copy_of OR whole.outcome_index = copy.copy_of)
           AND whole.erased_index IS NOT NULL
       ),
       copy.outcome_index IS NOT NULL
FROM calls AS copy WHERE copy.copy_of IS NOT NULL AND (copy.copy_of, copy.intent_index) > (?, ?)
ORDER BY copy.copy_of, copy.intent_index LIMIT ?
"""


def copied_record(parameters: Mapping[str, Any]) -> int | None:
    """The record whose call this one holds anew, by the parameters of its intent; ``None``: it is a call of its own."""
    found = (parameters.get(name) for name in _NAMES)
    return next((index for index in found if type(index) is int and 0 <= index < 1 << 63), None)


def copies_of(db: Connection, intents: Iterable[int]) -> tuple[tuple[int, ...], bool]:
    """Intents of the calls, not among ``intents``, that hold their content anew, at any remove, and have ended; and
    whether there are some that go on yet."""
    asked = {*intents}
    found: list[tuple[Any, ...]] = db.execute(_REACHED, (json.dumps(sorted(asked)),)).fetchall()
    copies = [(int(intent), bool(ended)) for intent, ended in found if intent not in asked]
    return tuple(intent for intent, ended in copies if ended), not all(ended for _, ended in copies)


class CopyRound:
    """Goes through all copies for those whose call was erased without them: by a MiniVault that did not know of them,
    while they went on, or because they were too many for one erasure."""

    def __init__(self) -> None:
        self._at = (-1, -1)
        self.open = False
        """One that must go has not ended yet."""
        self.done = False

    def step(self, db: Connection) -> tuple[int, ...]:
        """One page of them; the intents of those that are to be erased now."""
        rows: list[tuple[Any, ...]] = db.execute(_PAGE, (*self._at, PAGE)).fetchall()
        self.done = len(rows) < PAGE
        if rows:
            self._at = rows[-1][:2]
        self.open |= any(due and not ended for _, _, due, ended in rows)
        return tuple(int(intent) for _, intent, due, ended in rows if due and ended)
