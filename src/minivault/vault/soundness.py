"""Is what is on record of one call what was committed to: both leaves, each piece of content, what readers are told.

Judges one call, by its own records: whether they are in the tree is for ``verify``. Knows nothing of why it is asked.
"""

from __future__ import annotations

from typing import Any, Final

from minivault.vault.database import Connection, snapshot
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import leaf_hash
from minivault.vault.record import ContentKind, commitment

_CALL: Final = "SELECT outcome_index, erased_index FROM calls WHERE intent_index = ?"
_LEAF: Final = "SELECT data, hash FROM leaves WHERE leaf_index = ?"
_PIECES: Final = "SELECT kind, salt, data FROM contents WHERE leaf_index = ?"
_TOLD: Final = "SELECT prompt, response FROM call_texts WHERE intent_index = ?"


def is_sound(db: Connection, intent_index: int) -> bool:
    """Whether each record of the call has its hash, and the content that is there is all that its records commit to:
    each piece of a call that was stored and not erased, and none of any other.
    """
    with snapshot(db):
        try:
            return _is_sound(db, intent_index)
        except (TypeError, ValueError):
            # A value of another type than the file can have by our hands, or text that is not Unicode.
            return False


def _is_sound(db: Connection, intent_index: int) -> bool:
    outcome_index, erased_index = next(db.execute(_CALL, (intent_index,)), (None, None))
    intent = _leaf(db, intent_index)
    if intent is None:
        return False
    records = [(intent_index, intent)]
    if outcome_index is not None:
        outcome = _leaf(db, outcome_index)
        if outcome is None or outcome.get("intent_index") != intent_index:
            return False
        records.append((outcome_index, outcome))
    kept = intent["policy"] == "full" and erased_index is None
    texts: dict[str, str] = {}
    for index, leaf in records:
        pieces: list[tuple[Any, ...]] = db.execute(_PIECES, (index,)).fetchall()
        found = {kind: commitment(ContentKind(kind), salt, data) for kind, salt, data in pieces}
        if found != (leaf["commitments"] if kept else {}):
            return False
        texts |= {kind: str(data, "utf-8") for kind, _, data in pieces if kind in _TEXTS}
    told = next(db.execute(_TOLD, (intent_index,)), None)
    return bool(told == tuple(texts.get(kind) for kind in _TEXTS))


_TEXTS: Final = (ContentKind.PROMPT_TEXT.value, ContentKind.RESPONSE_TEXT.value)


def _leaf(db: Connection, index: int) -> dict[str, Any] | None:
    data, digest = next(db.execute(_LEAF, (index,)), (b"", b""))
    leaf = read_leaf(data) if isinstance(data, bytes) and leaf_hash(data) == digest else None
    if leaf is None or leaf.get("index") != index or "commitments" not in leaf or misshapen(leaf) is not None:
        return None
    return leaf
