"""What a record is: its canonical bytes, its salted commitments, and the values that callers hand over.

A record is one leaf of the tree. Its bytes are canonical JSON, made once here, stored exactly as hashed and never made
again to verify. Content (prompt, answer, token ids, raw request, and of the parameters what the caller wrote) is not
in the leaf: the leaf holds a commitment to each piece, SHA-256 over a label, a random 32-byte salt and the content;
content and salt lie in another table and can be erased without breaking a proof.

Knows nothing of SQLite, of threads, of files, of models or of HTTP. Time and randomness are handed in.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Literal

from minivault.vault.constraints import parted
from minivault.vault.merkle import leaf_hash

FORMAT = "minivault.leaf.v1"
SALT_BYTES = 32
NANOSECONDS = 1_000_000_000

Entropy = Callable[[int], bytes]
"""Gives so many random bytes (``os.urandom``)."""
Clock = Callable[[], int]
"""Gives nanoseconds since 1970, UTC (``time.time_ns``). May step backwards: order is by index, never by time."""


class RecordKind(StrEnum):
    """What a leaf is about."""

    INTENT = "intent"
    OUTCOME = "outcome"
    ERASURE = "erasure"


class ContentKind(StrEnum):
    """The pieces of content that a leaf commits to."""

    PROMPT_TEXT = "prompt_text"
    PROMPT_TOKEN_IDS = "prompt_token_ids"  # noqa: S105 - tokens of a model, not a secret
    RAW_REQUEST = "raw_request"
    CONSTRAINTS = "constraints"
    """Of an intent that has any: the parameters that the caller wrote as text or structure; see ``constraints.py``."""
    RESPONSE_TEXT = "response_text"
    RESPONSE_TOKEN_IDS = "response_token_ids"  # noqa: S105 - tokens of a model, not a secret


@dataclass(frozen=True, slots=True)
class Pin:
    """All that an answer depended on, besides the prompt and the parameters."""

    model: str
    weights_digest: str
    tokenizer_digest: str
    template_digest: str
    engine: str
    engine_build: str
    arithmetic: str
    exact: bool
    """The engine promises the same bytes for the same request."""


_PIN_FIELDS = tuple(field.name for field in fields(Pin))


@dataclass(frozen=True, slots=True)
class Intent:
    """A call about to be answered. Durable before the first byte of an answer is shown."""

    request_id: str
    surface: str
    source: str
    api_key_id: str | None
    mode: Literal["full", "stream"]
    pin: Pin
    parameters: Mapping[str, Any]
    """Every effective parameter, defaults filled in, the seed included; JSON values."""
    ignored: tuple[str, ...]
    """What the caller asked and the server ignored, by name."""
    store: bool
    """False: the leaf keeps its commitments; content and salts are never written."""
    prompt_text: str
    prompt_token_ids: Sequence[int]
    raw_request: bytes
    repeat_key: int | None = None
    """63 bits that calls have in common which must be answered alike, to find them by; ``None``: no such promise. It
    is no part of the leaf, and goes with the content."""
    constraints: tuple[str, ...] = ()
    """Dotted names of the parameters that the caller wrote as text or structure: they are content, not in the leaf."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. Durable before the answer is called finished."""

    intent_index: int
    finish_reason: str
    response_text: str
    response_token_ids: Sequence[int]
    prompt_tokens: int
    completion_tokens: int
    timings: Mapping[str, int]
    """Nanoseconds by name; ``total_ns`` is the duration of the call."""
    error: str | None = None
    """A message that is safe to show, for a failed call."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The content of calls goes, and the fact that it went is itself on record."""

    intents: tuple[int, ...]
    """The calls, by the indexes of their intents."""
    reason: Literal["request", "retention", "copy"]
    """``copy``: these are replays and repeats of calls that were erased before."""
    source: str
    """Where it came from: ``http``, ``cli``, or ``ledger`` for retention and copies."""
    api_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record is durable. ``leaf`` is the RFC 9162 leaf hash, 64 hex digits."""

    index: int
    leaf: str
    call_id: str | None = None
    """Of an intent: the id under which the call is on record, which is not the one asked for where that was taken."""


@dataclass(frozen=True, slots=True)
class Content:
    """One piece of content with the salt of its commitment."""

    kind: ContentKind
    salt: bytes
    data: bytes

    def commitment(self) -> str:
        """64 hex digits, as the leaf holds them."""
        return commitment(self.kind, self.salt, self.data)


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record as it goes to the disk: the leaf's bytes, their hash, and the content to keep (none if not stored)."""

    index: int
    data: bytes
    hash: bytes
    contents: tuple[Content, ...]


def commitment(kind: str, salt: bytes, data: bytes) -> str:
    """``SHA-256("minivault.commitment.v1:" kind 0x00 salt data)``: the label keeps kinds apart, the salt hides content.

    Raises:
        ValueError: the salt is not 32 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    return hashlib.sha256(_LABELS[kind] + salt + data).hexdigest()


_LABELS: Final[Mapping[str, bytes]] = {
    kind.value: b"minivault.commitment.v1:" + kind.value.encode("ascii") + b"\x00" for kind in ContentKind
}


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """RFC 8785 as far as it carries: UTF-8, no spaces, keys sorted by code point, the shortest escapes.

    Two differences, both because a leaf must hold a 63-bit seed exactly: integers are written in full, and floats in
    the shortest form that reads back to the same double, as Python writes it (``0.7``, ``1.0``, ``1e-07``).

    Raises:
        ValueError: NaN, infinity, a lone surrogate, or a value that JSON cannot hold.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), default=_plain
        )
        return text.encode("utf-8")
    except TypeError as error:
        raise ValueError("the record holds a value that JSON cannot hold") from error


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """Token ids as content: four bytes each, little-endian, unsigned.

    Raises:
        ValueError: an id is not in 0 .. 2**32 - 1.
    """
    try:
        return struct.pack(f"<{len(token_ids)}I", *token_ids)
    except struct.error as error:
        raise ValueError("token ids lie in 0 .. 2**32 - 1") from error


def unpack_token_ids(data: bytes) -> tuple[int, ...]:
    """The inverse of :func:`pack_token_ids`. A torn last id, which no ledger writes, is left out."""
    return struct.unpack_from(f"<{len(data) // 4}I", data)


def format_time(time_ns: int) -> str:
    """UTC, RFC 3339, nine digits: ``2026-11-21T09:03:30.123456789Z``."""
    seconds, fraction = divmod(time_ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; no offset means UTC.

    Raises:
        ValueError: not such a time.
    """
    if _OURS.fullmatch(text):
        second = _day(text[:10]) + 3600 * int(text[11:13]) + 60 * int(text[14:16]) + int(text[17:19])
        return second * NANOSECONDS + int(text[20:29])
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    seconds = int(moment.replace(microsecond=0).timestamp())
    _, dot, tail = text.partition(".")
    digits = ""
    for character in tail if dot else "":
        if not character.isdigit():
            break
        digits += character
    return seconds * NANOSECONDS + int(digits[:9].ljust(9, "0"))


_OURS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{9}Z")
"""Times as :func:`format_time` writes them, which are read a million at a time."""


@lru_cache(maxsize=256)
def _day(text: str) -> int:
    """The second in which a day began."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def seal_intent(intent: Intent, *, index: int, time_ns: int, entropy: Entropy) -> SealedRecord:
    """Make an intent's leaf and contents.

    Raises:
        ValueError: a field cannot be put into canonical bytes.
    """
    parameters, constraints = parted(intent.parameters, intent.constraints)
    contents = _salted(
        entropy,
        (ContentKind.PROMPT_TEXT, intent.prompt_text.encode("utf-8")),
        (ContentKind.PROMPT_TOKEN_IDS, pack_token_ids(intent.prompt_token_ids)),
        (ContentKind.RAW_REQUEST, intent.raw_request),
        *([(ContentKind.CONSTRAINTS, canonical_json(constraints))] if constraints else ()),
    )
    leaf = {
        "format": FORMAT,
        "kind": RecordKind.INTENT.value,
        "index": index,
        "request_id": intent.request_id,
        "time": format_time(time_ns),
        "api_key_id": intent.api_key_id,
        "surface": intent.surface,
        "source": intent.source,
        "mode": intent.mode,
        "policy": "full" if intent.store else "digest",
        "pin": {name: getattr(intent.pin, name) for name in _PIN_FIELDS},
        "parameters": parameters,
        "ignored": intent.ignored,
        "prompt_tokens": len(intent.prompt_token_ids),
        "commitments": {content.kind.value: content.commitment() for content in contents},
    }
    return _sealed(index, leaf, contents if intent.store else ())


def seal_outcome(
    outcome: Outcome, *, request_id: str, store: bool, index: int, time_ns: int, entropy: Entropy
) -> SealedRecord:
    """Make an outcome's leaf and contents; ``request_id`` and ``store`` are those of its intent.

    Raises:
        ValueError: a field cannot be put into canonical bytes.
    """
    contents = _salted(
        entropy,
        (ContentKind.RESPONSE_TEXT, outcome.response_text.encode("utf-8")),
        (ContentKind.RESPONSE_TOKEN_IDS, pack_token_ids(outcome.response_token_ids)),
    )
    leaf = {
        "format": FORMAT,
        "kind": RecordKind.OUTCOME.value,
        "index": index,
        "intent_index": outcome.intent_index,
        "request_id": request_id,
        "time": format_time(time_ns),
        "finish_reason": str(outcome.finish_reason),
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "timings": outcome.timings,
        "error": outcome.error,
        "commitments": {content.kind.value: content.commitment() for content in contents},
    }
    return _sealed(index, leaf, contents if store else ())


def seal_erasure(erasure: Erasure, *, index: int, time_ns: int) -> SealedRecord:
    """Make an erasure's leaf."""
    leaf = {
        "format": FORMAT,
        "kind": RecordKind.ERASURE.value,
        "index": index,
        "time": format_time(time_ns),
        "api_key_id": erasure.api_key_id,
        "source": erasure.source,
        "reason": erasure.reason,
        "intents": erasure.intents,
    }
    return _sealed(index, leaf, ())


def _salted(entropy: Entropy, *pieces: tuple[ContentKind, bytes]) -> tuple[Content, ...]:
    salts = entropy(SALT_BYTES * len(pieces))
    return tuple(
        Content(kind, salts[SALT_BYTES * place : SALT_BYTES * (place + 1)], data)
        for place, (kind, data) in enumerate(pieces)
    )


def _sealed(index: int, leaf: Mapping[str, Any], contents: tuple[Content, ...]) -> SealedRecord:
    data = canonical_json(leaf)
    return SealedRecord(index=index, data=data, hash=leaf_hash(data), contents=contents)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(type(value).__name__)
