"""Is a leaf's JSON what the ledger writes: every field there, of its type. Whoever can write the file can put anything
into a leaf, so nothing of one is used before this has passed it. Reads nothing; knows nothing of whether it is true.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

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
_KINDS = frozenset(kind.value for kind in ContentKind)


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
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return "kind"
    for name, types in fields.items():
        # Not isinstance: true and false are no numbers here.
        if type(leaf.get(name, ...)) not in types:
            return name
    if kind == RecordKind.ERASURE.value:
        return None if all(type(intent) is int for intent in leaf["intents"]) else "intents"
    if not all(name in _KINDS and type(value) is str for name, value in leaf["commitments"].items()):
        return "commitments"
    if kind == RecordKind.INTENT.value:
        return None if type(leaf["pin"].get("model")) is str else "pin"
    return None if all(type(value) is int for value in leaf["timings"].values()) else "timings"
