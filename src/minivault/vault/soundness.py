"""Is what is on record of a call what was committed to: both leaves, each piece of content, what readers are told.

Judges calls by their own records, a page of them at a time: whether those are in the tree is for ``verify``. Knows
nothing of why it is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from minivault.vault.calls import Call, CallDetail
from minivault.vault.database import Connection, snapshot
from minivault.vault.leaf_check import erased_by, intent_row, outcome_row
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import leaf_hash
from minivault.vault.queries import COLUMNS, call_of
from minivault.vault.record import ContentKind, RecordKind, commitment, unpack_token_ids

_CALL: Final = f"SELECT {COLUMNS} FROM calls AS c JOIN call_texts AS t USING (intent_index) WHERE c.intent_index = ?"  # noqa: S608 - constants
_LEAVES: Final = """
SELECT leaf_index, data, hash FROM json_each(?) CROSS JOIN leaves ON leaf_index = value
"""
_PIECES: Final = """
SELECT leaf_index, CAST(kind AS BLOB), salt, data FROM json_each(?) CROSS JOIN contents ON leaf_index = value
"""
_PROMPT, _RESPONSE = ContentKind.PROMPT_TEXT.value, ContentKind.RESPONSE_TEXT.value
_PROMPT_IDS, _RESPONSE_IDS = ContentKind.PROMPT_TOKEN_IDS.value, ContentKind.RESPONSE_TOKEN_IDS.value
_CONSTRAINTS: Final = ContentKind.CONSTRAINTS.value
_KEPT: Final = frozenset({_PROMPT_IDS, _RESPONSE_IDS, _CONSTRAINTS})
"""Of the content, what a call in full has besides its texts."""


def is_sound(db: Connection, intent_index: int) -> bool:
    """Whether each record of the call has its hash, what lists say of it is what they say, and the content that is
    there is all that they commit to: each piece of a call that was stored and not erased, and none of any other.
    """
    with snapshot(db):
        try:
            row = next(db.execute(_CALL, (intent_index,)), None)
        except ValueError:
            # Text that is not Unicode.
            return False
        return row is not None and not Evidence(db, [call_of(row)]).is_altered(call_of(row))


def marked(db: Connection, calls: Iterable[Call]) -> tuple[Call, ...]:
    """The calls, read in the snapshot that the caller holds, with ``altered`` set where they are not sound."""
    there = tuple(calls)
    evidence = Evidence(db, there)
    return tuple(replace(call, altered=True) if evidence.is_altered(call) else call for call in there)


class Evidence:
    """What is on record of some calls, read at once, in the snapshot in which the calls were.

    Of content it holds what its commitments come to, and, ``in_full``, what :meth:`in_full` gives. Whatever is asked of
    it is asked of the calls that it was made for.
    """

    def __init__(self, db: Connection, calls: Iterable[Call], *, in_full: bool = False) -> None:
        there = tuple(calls)
        self._told = {(call.index, _PROMPT): call.prompt for call in there if call.prompt is not None}
        self._told |= {(_place(call), _RESPONSE): call.response for call in there if call.response is not None}
        self._commitments: dict[int, dict[str, str | None]] = {}
        self._kept: dict[tuple[int, str], bytes] = {}
        self._salts: dict[int, dict[str, str]] = {}
        records = {index for call in there for index in (call.index, call.outcome_index) if index is not None}
        erasures = {call.erased_index for call in there if call.erased_index is not None}
        leaves: list[tuple[Any, ...]] = db.execute(_LEAVES, (json.dumps([*records | erasures]),)).fetchall()
        self._leaves = {index: (data, digest) for index, data, digest in leaves}
        self._erased: dict[int, set[int]] = {}
        for index, word, salt, data in db.execute(_PIECES, (json.dumps([*records]),)):
            kind = bytes(word or b"").decode("utf-8", "replace")
            self._commitments.setdefault(index, {})[kind] = self._committed(index, kind, salt, data)
            if in_full and isinstance(salt, bytes):
                self._salts.setdefault(index, {})[kind] = salt.hex()
            if in_full and kind in _KEPT and isinstance(data, bytes):
                self._kept[index, kind] = data

    def _committed(self, index: int, kind: str, salt: Any, data: Any) -> str | None:
        """What a piece's commitment is; ``None`` for one that no record names, or that readers are told otherwise."""
        told = self._told.pop((index, kind), None)
        try:
            if kind in (_PROMPT, _RESPONSE) and (told is None or told.encode("utf-8") != data):
                return None
            return commitment(kind, salt, data)
        except (KeyError, TypeError, ValueError):
            # Damage to the file: no such kind, no salt, or a value of another type.
            return None

    def is_altered(self, call: Call) -> bool:
        """Whether what is there is not what its records say."""
        return self._is_altered(call, *self._leaves_of(call))

    def in_full(self, call: Call) -> CallDetail:
        """The call with all that is recorded of it, ``altered`` where it is. Nothing is given of a record that is
        missing, or that does not have its hash."""
        intent, outcome = self._leaves_of(call)
        prompt_ids, constraints = (self._kept.get((call.index, kind)) for kind in (_PROMPT_IDS, _CONSTRAINTS))
        response_ids = self._kept.get((_place(call), _RESPONSE_IDS))
        return CallDetail(
            call=replace(call, altered=self._is_altered(call, intent, outcome)),
            intent=intent or {},
            intent_leaf=self._hash(call.index) or "",
            outcome=outcome,
            outcome_leaf=None if call.outcome_index is None else self._hash(call.outcome_index),
            prompt_token_ids=None if prompt_ids is None else unpack_token_ids(prompt_ids),
            response_token_ids=None if response_ids is None else unpack_token_ids(response_ids),
            salts=(self._salts.get(call.index, {}) | self._salts.get(_place(call), {})) or None,
            constraints=None if constraints is None else constraints.decode("utf-8", "replace"),
        )

    def _hash(self, index: int) -> str | None:
        digest = self._leaves.get(index, (None, None))[1]
        return digest.hex() if isinstance(digest, bytes) else None

    def _leaves_of(self, call: Call) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        ended = call.outcome_index
        outcome = None if ended is None else self._leaf(ended, RecordKind.OUTCOME)
        return self._leaf(call.index, RecordKind.INTENT), outcome

    def _is_altered(self, call: Call, intent: dict[str, Any] | None, outcome: dict[str, Any] | None) -> bool:
        if intent is None or _intent_told(call) != (intent_row(intent) or ())[:-1]:
            return True
        records = [(call.index, intent)]
        if call.outcome_index is None:
            ended = (call.finish_reason, call.completion_tokens, call.duration_ns)
            if call.prompt_tokens != intent["prompt_tokens"] or ended != (None, None, None):
                return True
        else:
            if outcome is None or _outcome_told(call) != outcome_row(outcome):
                return True
            records.append((call.outcome_index, outcome))
        if call.erased_index is not None and call.index not in self._erased_by(call.erased_index):
            return True
        kept = intent["policy"] == "full" and call.erased_index is None
        found = [self._commitments.get(index, {}) for index, _ in records]
        untold = (call.index, _PROMPT) in self._told or (_place(call), _RESPONSE) in self._told
        return untold or found != [leaf["commitments"] if kept else {} for _, leaf in records]

    def _leaf(self, index: int, kind: RecordKind) -> dict[str, Any] | None:
        """The record, if it has its hash, is in its place and is well shaped."""
        data, digest = self._leaves.get(index, (b"", b""))
        leaf = read_leaf(data) if isinstance(data, bytes) and leaf_hash(data) == digest else None
        if leaf is None or leaf.get("kind") != kind.value or leaf.get("index") != index or misshapen(leaf) is not None:
            return None
        return leaf

    def _erased_by(self, index: int) -> set[int]:
        if index not in self._erased:
            leaf = self._leaf(index, RecordKind.ERASURE)
            self._erased[index] = set() if leaf is None else erased_by(leaf)
        return self._erased[index]


def _place(call: Call) -> int:
    """Of its answer; no record's where there is none."""
    return -1 if call.outcome_index is None else call.outcome_index


def _intent_told(call: Call) -> tuple[Any, ...]:
    whose = (call.surface, call.source, call.api_key_id, call.mode, int(call.store))
    return (call.index, call.id, call.time_ns, call.model, *whose)


def _outcome_told(call: Call) -> tuple[Any, ...]:
    ended = (call.finish_reason, call.prompt_tokens, call.completion_tokens, call.duration_ns)
    return (call.outcome_index, call.index, call.id, *ended)
