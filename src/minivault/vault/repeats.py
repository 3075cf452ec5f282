"""Calls that were answered before, found by their repeat key, and trusted only where content and records agree.

The key is a short digest in ``calls``, which anybody who can write the file can set: so what it leads to is checked
against the leaves here, and compared in full by the caller. Knows nothing of what goes into the key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from minivault.vault.calls import CallDetail
from minivault.vault.database import Connection
from minivault.vault.merkle import leaf_hash
from minivault.vault.record import ContentKind, commitment

MOST: Final = 4
"""Of calls with one key; more are there only where nobody asked for answers from the record."""

_FOUND: Final = """
SELECT intent_index FROM calls
WHERE repeat_key = ? AND finish_reason IN ('stop', 'length') AND store = 1 AND erased_index IS NULL
"""
_PIECES: Final = "SELECT kind, salt, data FROM contents WHERE leaf_index = ?"
_OLDEST: Final = " ORDER BY intent_index LIMIT ?"


def repeats(
    db: Connection, repeat_key: int, owner: str | None, detail: Callable[[Connection, int], CallDetail]
) -> tuple[CallDetail, ...]:
    """See :meth:`minivault.vault.reader.Reader.repeats`; ``detail`` reads one call."""
    owned, values = ("", ()) if owner is None else (" AND api_key_id = ?", (owner,))
    rows: list[tuple[Any, ...]] = db.execute(_FOUND + owned + _OLDEST, (repeat_key, *values, MOST)).fetchall()
    indexes = [int(index) for (index,) in rows]
    return tuple(detail(db, index) for index in indexes if _is_sound(db, index))


def _is_sound(db: Connection, intent_index: int) -> bool:
    """Whether both records have their hashes, and their pieces of content the commitments that they hold."""
    outcome_index = db.execute("SELECT outcome_index FROM calls WHERE intent_index = ?", (intent_index,)).get
    return all(_keeps_its_word(db, index) for index in (intent_index, outcome_index))


def _keeps_its_word(db: Connection, index: int) -> bool:
    data, digest = next(db.execute("SELECT data, hash FROM leaves WHERE leaf_index = ?", (index,)), (b"", b""))
    if leaf_hash(data) != digest:
        return False
    committed = json.loads(data)["commitments"]
    pieces: list[tuple[Any, ...]] = db.execute(_PIECES, (index,)).fetchall()
    found = {kind: commitment(ContentKind(kind), salt, content) for kind, salt, content in pieces}
    return bool(found == committed)
