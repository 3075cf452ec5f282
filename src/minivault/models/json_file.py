"""Reads the JSON files of a model folder, with a bound on size and a clear error for everything that is not an object.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from minivault.errors import CheckpointCorrupt, TooManyOpenFiles

MAX_JSON_BYTES = 64 << 20
"""No configuration file is near this; tokenizer files of large vocabularies come to about half of it."""

_SHOWN_CHARACTERS = 80
_RETRY_AFTER = 5.0
"""Seconds, for descriptors to be there again."""


def shown(text: str) -> str:
    """``text`` from a model's file as an error message may hold it: printable ASCII, at most 80 characters."""
    escaped = ascii(text)[1:-1]
    return escaped if len(escaped) <= _SHOWN_CHARACTERS else escaped[: _SHOWN_CHARACTERS - 3] + "..."


def shortage_in(error: OSError) -> TooManyOpenFiles | None:
    """Where no file can be opened at all, nothing is known of the one that was to be; ``None``: it is another error."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyOpenFiles("The system has too many open files; try again.", retry_after=_RETRY_AFTER)
    return None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def parse_json_object(data: bytes | memoryview, what: str) -> dict[str, Any]:
    """The JSON object in ``data``; ``what`` names its source in errors.

    Raises:
        CheckpointCorrupt: not strict UTF-8, not JSON, nested too deep, a key twice, or not an object.
    """
    try:
        found = json.loads(str(data, "utf-8"), object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else type(error).__name__
        raise CheckpointCorrupt(f"{what} is not a JSON object in UTF-8 with each key once ({reason})") from None
    if not isinstance(found, dict):
        raise CheckpointCorrupt(f"{what} must hold a JSON object, found {type(found).__name__}")
    return found


def read_bounded(path: Path, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``.

    Raises:
        CheckpointCorrupt: missing, not a regular file, unreadable, or larger.
        TooManyOpenFiles: it could not be opened for want of a descriptor.
    """
    try:
        if not path.is_file():
            raise CheckpointCorrupt(f"{shown(path.name)} is missing or not a regular file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise shortage_in(error) or CheckpointCorrupt(f"{shown(path.name)} cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise CheckpointCorrupt(f"{shown(path.name)} is larger than {max_bytes} bytes")
    return data


def read_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in the file ``path`` (see :func:`read_bounded` and :func:`parse_json_object`)."""
    return parse_json_object(read_bounded(path, max_bytes), shown(path.name))


def read_optional_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """As :func:`read_json_object`; an absent file counts as an empty object."""
    return read_json_object(path, max_bytes) if path.is_file() else {}
