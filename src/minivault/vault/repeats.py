"""Calls that were answered before, found by their repeat key, and trusted only where content and records agree.

The key is a short digest in ``calls``, which anybody who can write the file can set: so what it leads to is checked
against the leaves here, and compared in full by the caller. Knows nothing of what goes into the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from minivault.vault.calls import CallDetail
from minivault.vault.database import Connection
from minivault.vault.soundness import is_sound

MOST: Final = 4
"""Of calls with one key; more are there only where nobody asked for answers from the record."""

_FOUND: Final = """
SELECT intent_index FROM calls
WHERE repeat_key = ? AND finish_reason IN ('stop', 'length') AND store = 1 AND erased_index IS NULL
"""
_OLDEST: Final = " ORDER BY intent_index LIMIT ?"


def repeats(
    db: Connection, repeat_key: int, owner: str | None, detail: Callable[[Connection, int], CallDetail]
) -> tuple[CallDetail, ...]:
    """See :meth:`minivault.vault.reader.Reader.repeats`; ``detail`` reads one call."""
    owned, values = ("", ()) if owner is None else (" AND api_key_id = ?", (owner,))
    rows: list[tuple[Any, ...]] = db.execute(_FOUND + owned + _OLDEST, (repeat_key, *values, MOST)).fetchall()
    indexes = [int(index) for (index,) in rows]
    return tuple(detail(db, index) for index in indexes if is_sound(db, index))
