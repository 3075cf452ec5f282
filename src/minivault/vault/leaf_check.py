"""Is one record what the list and its content say: intent, outcome or erasure. Fed with values, reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from minivault.vault.copies import copied_record
from minivault.vault.findings import Fault
from minivault.vault.record import ContentKind, RecordKind, commitment, parse_time
from minivault.vault.walk import Walk

_NAMES: Final = frozenset(kind.value for kind in ContentKind)
_INTENT, _ERASURE = RecordKind.INTENT.value, RecordKind.ERASURE.value
_NO_COMMITMENTS: Final[dict[str, str]] = {}


def check_leaf_content(
    walk: Walk,
    index: int,
    leaf: Mapping[str, Any],
    calls: dict[int, tuple[Any, ...]],
    endings: dict[int, tuple[Any, ...]],
    pieces: dict[str, tuple[bytes, bytes]] | None,
) -> None:
    """``leaf`` is well shaped. ``pieces``: the content that is there; ``None`` where it is gone, and the list names the
    record that says so."""
    policy: str | None
    kind = leaf.get("kind")
    if kind == _INTENT:
        policy = str(leaf["policy"])
        walk.calls += 1
        walk.digest_only += policy == "digest"
        walk.policies[index] = policy
        if not _is_intent_row(calls.pop(index, None), leaf):
            walk.found(Fault.DERIVED_ALTERED, index, f"the list's row of record {index} does not say what it says")
    elif kind == _ERASURE:
        _check_erasure(walk, index, leaf)
        policy = "digest"
    else:
        policy = _check_outcome(walk, index, leaf, endings)
    if walk.contents and policy is not None and pieces is not None:
        _check_contents(walk, index, leaf, policy, pieces)


def _check_erasure(walk: Walk, index: int, leaf: Mapping[str, Any]) -> None:
    """The calls that it names are those that the list names as erased by it."""
    named = erased_by(leaf)
    claimed = walk.claims.pop(index, set())
    walk.erased += len(named & claimed)
    for intent in sorted(named - claimed - walk.unsound):
        walk.found(Fault.ERASURE, index, f"record {index} says that record {intent} was erased, and the list does not")
    for intent in sorted(claimed - named):
        note_not_erased(walk, intent, index)


def erased_by(leaf: Mapping[str, Any]) -> set[int]:
    """The calls that a well-shaped leaf of an erasure names."""
    return set(leaf["intents"])


def note_not_erased(walk: Walk, intent: int, erasure: int) -> None:
    walk.found(
        Fault.CONTENT_MISSING, intent, f"record {intent} is listed as erased by record {erasure}, which does not say so"
    )


def _check_outcome(walk: Walk, index: int, leaf: Mapping[str, Any], endings: dict[int, tuple[Any, ...]]) -> str | None:
    intent: int = leaf["intent_index"]
    row = endings.pop(index, None)
    if not 0 <= intent < index:
        walk.found(Fault.PAIRING, index, f"record {index} is an outcome of no earlier record")
        return None
    if intent >= walk.first:
        if walk.ended[intent - walk.first]:
            walk.found(Fault.PAIRING, index, f"record {index} is a second outcome of record {intent}")
            return None
        walk.ended[intent - walk.first] = 1
    policy = walk.policies.pop(intent, None)
    if policy is None and intent in walk.unsound:
        return None
    if policy is None:
        walk.found(Fault.PAIRING, index, f"record {index} is the outcome of record {intent}, which is no sound intent")
    if row != outcome_row(leaf):
        walk.found(Fault.DERIVED_ALTERED, index, f"the list's row of record {index} does not say what it says")
    return policy


def _check_contents(
    walk: Walk, index: int, leaf: Mapping[str, Any], policy: str, pieces: dict[str, tuple[bytes, bytes]]
) -> None:
    commitments: dict[str, str] = leaf.get("commitments", _NO_COMMITMENTS)
    if policy == "full" and pieces.keys() == commitments.keys() and _agree(pieces, commitments):
        return
    for kind in pieces.keys() - commitments.keys():
        said = f": {kind}" if kind in _NAMES else ""
        walk.found(Fault.CONTENT_UNEXPECTED, index, f"record {index} has a content that it does not name{said}")
    for kind, committed in commitments.items():
        piece = pieces.get(kind)
        if piece is None:
            if policy == "full":
                walk.found(Fault.CONTENT_MISSING, index, f"the {kind} of record {index} is missing")
        elif policy != "full":
            walk.found(Fault.CONTENT_UNEXPECTED, index, f"the {kind} of record {index} was not to be stored")
        elif not _agrees(ContentKind(kind), piece, committed):
            walk.found(Fault.CONTENT_ALTERED, index, f"the {kind} of record {index} is altered")


def _agree(pieces: dict[str, tuple[bytes, bytes]], commitments: dict[str, str]) -> bool:
    """Whether all that is committed to is there and as it was."""
    try:
        return {kind: commitment(kind, salt, data) for kind, (salt, data) in pieces.items()} == commitments
    except (TypeError, ValueError):  # damage to the file: no salt, or a value of another type
        return False


def _agrees(kind: ContentKind, piece: tuple[bytes, bytes], committed: object) -> bool:
    try:
        return commitment(kind, *piece) == committed
    except (TypeError, ValueError):  # damage to the file: no salt, or a value of another type
        return False


def _is_intent_row(row: tuple[Any, ...] | None, leaf: Mapping[str, Any]) -> bool:
    """Its last two values are of a call without an outcome: the tokens of its prompt, and anything said of its end."""
    if row is None:
        return False
    *said, prompt_tokens, ended = row
    return tuple(said) == intent_row(leaf) and prompt_tokens in (None, leaf["prompt_tokens"]) and ended is None


def intent_row(leaf: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What the list says of a call's begin, by the well-shaped leaf of its intent; ``None`` if its time is none."""
    try:
        return (
            leaf["index"],
            leaf["request_id"],
            parse_time(leaf["time"]),
            leaf["pin"]["model"],
            leaf["surface"],
            leaf["source"],
            leaf["api_key_id"],
            leaf["mode"],
            int(leaf["policy"] == "full"),
            copied_record(leaf["parameters"]),
        )
    except (ValueError, OverflowError):
        return None


def outcome_row(leaf: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the list says of a call's end, by the well-shaped leaf of its outcome."""
    return (
        leaf["index"],
        leaf["intent_index"],
        leaf["request_id"],
        leaf["finish_reason"],
        leaf["prompt_tokens"],
        leaf["completion_tokens"],
        leaf["timings"].get("total_ns"),
    )
