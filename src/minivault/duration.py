"""Lengths of time as Ollama's clients write them: ``300``, ``5m``, ``1h30m``, ``-1``. Standard library only.

Negative stands for no end. Knows nothing of what is timed, or of the bounds that it has.
"""

from __future__ import annotations

import re
from typing import Any, Final

EXAMPLES: Final = "such as 5m or 1h30m"
MAX_LENGTH: Final = 64
"""Characters."""
FOR_EVER: Final = -1.0

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT = "ns|us|µs|μs|ms|s|m|h"
_NUMBER = r"[0-9]+\.?[0-9]*|\.[0-9]+"
_WHOLE = re.compile(rf"[-+]?(0|(({_NUMBER})({_UNIT}))+|[0-9]+(\.[0-9]+)?)")
_PART = re.compile(rf"({_NUMBER})({_UNIT})?")


def seconds_in(text: str) -> float:
    """The seconds that ``text`` stands for; without a unit it is a number of seconds.

    Raises:
        ValueError: it is no length of time.
    """
    if len(text) > MAX_LENGTH or not _WHOLE.fullmatch(text):
        raise ValueError(f"must be a number of seconds, or a duration {EXAMPLES}; negative: for ever")
    seconds = sum(float(number) * _SECONDS[unit or "s"] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def keep_alive(given: Any) -> Any:
    """The seconds that a setting stands for, :data:`FOR_EVER` for all that is negative; what is neither text nor a
    number is left as it is.

    Raises:
        ValueError: it is no length of time.
    """
    if isinstance(given, str):
        given = seconds_in(given.strip())
    return FOR_EVER if isinstance(given, int | float) and given < 0 else given
