"""When a key ends, as people and programs write it: after ``12h``, ``7d`` or ``4w``, at a time, or never.

A time that names no zone is UTC, wherever it is read. Knows nothing of keys, of options or of HTTP.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

NEVER: Final = "never"
MAX_LENGTH: Final = 64
"""Characters."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"([0-9]{1,6})([smhdw])")
# Whole dates alone: years, weeks and bare digits could be taken for something else.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:.+)?")


def length_of(text: str) -> float | None:
    """The seconds of a length of time such as ``24h``; ``None``: it is none."""
    match = _LENGTH.fullmatch(text)
    return None if match is None else float(match[1]) * _UNITS[match[2]]


def end_of(text: str, now: float) -> float | None:
    """Seconds since 1970; ``None``: never. ``now``, likewise, is what lengths of time are counted from.

    Raises:
        ValueError: it is no time, or none that lies ahead.
    """
    if text == NEVER:
        return None
    length = length_of(text)
    end = _moment(text) if length is None else now + length
    if end <= now:
        raise ValueError("must lie ahead")
    return end


def _moment(text: str) -> float:
    try:
        if len(text) > MAX_LENGTH or not _TIME.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("must be like 12h, 7d, 4w, 2027-01-31, 2027-01-31T12:00:00Z or never") from None
