"""Is a leaf's JSON what the ledger writes: every field there, of its type. Whoever can write the file can put anything
into a leaf, so nothing of one is used before this has passed it. Reads nothing; knows nothing of whether it is true.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import product
from operator import itemgetter
from typing import Any, Final

from minivault.vault.constraints import NAMES
from minivault.vault.record import FORMAT, ContentKind, RecordKind

_raw_decode = json.JSONDecoder().raw_decode

_NONE = type(None)
_FIELDS: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    RecordKind.INTENT.value: {
        "index": (int,),
        "request_id": (str,),
        "time": (str,),
        "api_key_id": (str, _NONE),
        "surface": (str,),
        "source": (str,),
        "mode": (str,),
        "policy": (str,),
        "pin": (dict,),
        "parameters": (dict,),
        "ignored": (list,),
        "prompt_tokens": (int,),
        "commitments": (dict,),
    },
    RecordKind.OUTCOME.value: {
        "index": (int,),
        "intent_index": (int,),
        "request_id": (str,),
        "time": (str,),
        "finish_reason": (str,),
        "prompt_tokens": (int,),
        "completion_tokens": (int,),
        "timings": (dict,),
        "error": (str, _NONE),
        "commitments": (dict,),
    },
    RecordKind.ERASURE.value: {
        "index": (int,),
        "time": (str,),
        "api_key_id": (str, _NONE),
        "source": (str,),
        "reason": (str,),
        "intents": (list,),
    },
}
_INTENT, _OUTCOME, _ERASURE = RecordKind.INTENT.value, RecordKind.OUTCOME.value, RecordKind.ERASURE.value
_ANSWER: Final = frozenset({ContentKind.RESPONSE_TEXT.value, ContentKind.RESPONSE_TOKEN_IDS.value})
_KINDS: Final = {_INTENT: frozenset(kind.value for kind in ContentKind) - _ANSWER, _OUTCOME: _ANSWER}
"""Of content that each kind of record may commit to."""
_VALUES: Final = {kind: itemgetter(*fields) for kind, fields in _FIELDS.items()}
_TYPES: Final = {kind: frozenset(product(*fields.values())) for kind, fields in _FIELDS.items()}
"""Of each kind: its fields' values at once, and each row of types that they may have."""


def read_leaf(data: bytes) -> dict[str, Any] | None:
    """The object that a leaf's bytes hold; ``None`` if they are not one of this format, whatever they are."""
    try:
        text = data.decode("utf-8")
        leaf, end = _raw_decode(text)
    except (ValueError, RecursionError, MemoryError):
        # Brackets in brackets without end are a way to be rid of whoever reads them.
        return None
    return leaf if isinstance(leaf, dict) and end == len(text) and leaf.get("format") == FORMAT else None


def misshapen(leaf: Mapping[str, Any]) -> str | None:
    """The name of the first field that is not there or not of its type; ``None`` if all are well."""
    kind = leaf.get("kind")
    if type(kind) is not str or kind not in _FIELDS:
        return "kind"
    try:
        # Not isinstance: true and false are no numbers here.
        sound = tuple(map(type, _VALUES[kind](leaf))) in _TYPES[kind]
    except KeyError:
        sound = False
    if not sound:
        return next(name for name, types in _FIELDS[kind].items() if type(leaf.get(name, ...)) not in types)
    if kind == _ERASURE:
        return None if _all(int, leaf["intents"]) else "intents"
    commitments = leaf["commitments"]
    if not (commitments.keys() <= _KINDS[kind] and _all(str, commitments.values())):
        return "commitments"
    if kind == _INTENT:
        return _misshapen_intent(leaf)
    return None if _all(int, leaf["timings"].values()) else "timings"


def _misshapen_intent(leaf: Mapping[str, Any]) -> str | None:
    if type(leaf["pin"].get("model")) is not str:
        return "pin"
    parameters = leaf["parameters"]
    if NAMES not in parameters:
        return "commitments" if ContentKind.CONSTRAINTS.value in leaf["commitments"] else None
    names = parameters[NAMES]
    if not (type(names) is list and names and _all(str, names)):
        return "parameters"
    return None if ContentKind.CONSTRAINTS.value in leaf["commitments"] else "commitments"


def _all(of: type, values: Iterable[object]) -> bool:
    return {*map(type, values)} <= {of}
