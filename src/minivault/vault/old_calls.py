"""Reads what older programs kept of their calls: JSON Lines, and SQLite files with an ``interactions`` table.

Takes what can be read and names what cannot by its line or row, never by its text. Knows nothing of ledgers or records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from minivault.errors import InvalidRequest
from minivault.vault.database import StorageError, describe, open_foreign

MAX_LINE_BYTES = 16 << 20
_MARGIN = 1 << 10
"""For a byte order mark and the line's end, which do not count."""
_PIECE = 1 << 20
_MAGIC = b"SQLite format 3\0"
_PROMPT, _RESPONSE = ("prompt", "input"), ("response", "output", "completion")
_TIMESTAMP = ("timestamp", "time", "created_at")
_COLUMNS = (*_PROMPT, *_RESPONSE, *_TIMESTAMP, "id", "model", "mode", "finish_reason", "processing_time_ms")


@dataclass(frozen=True, slots=True)
class OldCall:
    """One call as it was kept. What its writer did not say is ``None``."""

    place: int
    """Its line or row, from 1."""
    digest: str
    """64 hex digits over all that was kept of it, and how often the same came before: the same file gives the same."""
    raw: bytes
    """The line, or the row as JSON."""
    prompt: str
    response: str
    model: str | None
    mode: str | None
    timestamp: str | None
    id: str | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    total_ns: int | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line or row that is no call."""

    place: int
    reason: str


def read_old_calls(path: Path) -> Iterator[OldCall | Unreadable]:
    """Every call in the file, in order, and every line or row that is none.

    Raises:
        InvalidRequest: the file cannot be read, or is a database without a table or view ``interactions`` that has
            prompts and responses.
    """
    seen: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_MAGIC)) == _MAGIC
        pieces = _rows(path) if is_database else _lines(path)
        for place, raw, value in pieces:
            yield value if isinstance(value, Unreadable) else _old_call(place, raw, value, seen)
    except OSError as error:
        raise InvalidRequest(f"the file cannot be read: {error.strerror}", param="file") from None
    except StorageError as error:
        raise InvalidRequest(f"the file cannot be read: {describe(error)}", param="file") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes, Mapping[str, Any] | Unreadable]]:
    with path.open("rb") as file:
        for place, line in enumerate(iter(lambda: _line(file), b""), 1):
            raw = line.removeprefix(b"\xef\xbb\xbf" if place == 1 else b"").strip()
            if raw:
                yield place, raw, _parsed(place, raw)


def _line(file: BinaryIO) -> bytes:
    """The next line; of one that is too long only the beginning, still too long, is held. Empty at the end."""
    line = file.readline(MAX_LINE_BYTES + _MARGIN)
    rest = line
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(_PIECE)
    return line


def _parsed(place: int, raw: bytes) -> Mapping[str, Any] | Unreadable:
    if len(raw) > MAX_LINE_BYTES:
        return Unreadable(place, f"longer than {MAX_LINE_BYTES} bytes")
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Unreadable(place, "not UTF-8")
    except (ValueError, RecursionError):
        return Unreadable(place, "not JSON")
    return value if isinstance(value, dict) else Unreadable(place, "JSON, but no object")


def _rows(path: Path) -> Iterator[tuple[int, bytes, Mapping[str, Any]]]:
    with contextlib.closing(open_foreign(path)) as db:
        there = {str(row[1]) for row in db.execute("PRAGMA table_info(interactions)")}
        columns = [name for name in _COLUMNS if name in there]
        if not there.intersection(_PROMPT) or not there.intersection(_RESPONSE):
            raise InvalidRequest("the database has no table interactions with prompt and response", param="file")
        for place, row in enumerate(db.execute(f"SELECT {', '.join(columns)} FROM interactions"), 1):  # noqa: S608 - names from above
            value = dict(zip(columns, row, strict=True))
            yield place, json.dumps(value, ensure_ascii=False, default=repr).encode("utf-8", "replace"), value


def _old_call(place: int, raw: bytes, value: Mapping[str, Any], seen: Counter[str]) -> OldCall | Unreadable:
    prompt, response = _text(value, _PROMPT), _text(value, _RESPONSE)
    if prompt is None or response is None:
        return Unreadable(place, f"has no {'prompt' if prompt is None else 'response'} that is text")
    try:
        (prompt + response).encode("utf-8")
    except UnicodeEncodeError:
        return Unreadable(place, "holds text that is not Unicode")
    digest = hashlib.sha256(raw).hexdigest()
    seen[digest] += 1
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return OldCall(
        place=place,
        digest=hashlib.sha256(f"{digest}:{seen[digest]}".encode()).hexdigest(),
        raw=raw,
        prompt=prompt,
        response=response,
        model=_word(value, "model"),
        mode=_word(value, "mode"),
        timestamp=_word(value, *_TIMESTAMP),
        id=_word(value, "id"),
        finish_reason=_word(value, "finish_reason"),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        total_ns=_nanoseconds(value.get("processing_time_ms")),
    )


def _text(value: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((value[name] for name in names if isinstance(value.get(name), str)), None)


def _word(value: Mapping[str, Any], *names: str) -> str | None:
    """A short text or a number, as text that can be recorded."""
    found = next((value[name] for name in names if isinstance(value.get(name), (str, int, float))), None)
    return None if found is None else str(found)[:200].encode("utf-8", "replace").decode("utf-8")


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else 0


def _nanoseconds(milliseconds: object) -> int | None:
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool) or not 0 <= milliseconds < 1e9:
        return None
    return int(milliseconds * 1_000_000)
