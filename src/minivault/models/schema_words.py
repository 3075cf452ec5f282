"""Keywords of one JSON Schema, apart from its parts: which constrain nothing, and which get bounds.

Knows nothing of objects or of references.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

EXACT_INTEGERS: Final = 2**53 - 1
"""The largest whole number that every reader of JSON takes exactly."""
_KNOWN_FORMATS: Final = frozenset(
    ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid")
)
"""Those that answers are held to. Any other is an annotation, as the standard has it."""

_DAY = "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
_TIME = (
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\\.[0-9]{1,9})?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_N = "[0-9]{1,9}"
_CLOCK = f"T(?:{_N}H(?:{_N}M(?:{_N}S)?)?|{_N}M(?:{_N}S)?|{_N}S)"
_CALENDAR = f"(?:{_N}Y(?:{_N}M(?:{_N}D)?)?|{_N}M(?:{_N}D)?|{_N}D)"
_ENDLESS: Final = {
    "date-time": f"^[0-9]{{4}}-{_DAY}[tT]{_TIME}$",
    "time": f"^{_TIME}$",
    "duration": f"^P(?:{_CALENDAR}(?:{_CLOCK})?|{_CLOCK}|{_N}W)$",
}
"""Formats whose numbers may have any count of digits, as patterns in which they have at most 9."""


def cleaned(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without what constrains nothing."""
    found = dict(schema)
    if found.get("uniqueItems") is False:
        del found["uniqueItems"]
    if "format" in found and not (isinstance(found["format"], str) and found["format"] in _KNOWN_FORMATS):
        del found["format"]
    return found


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """With bounds for integers that have none, and for the digits of times."""
    found = dict(schema)
    if found.get("format") in _ENDLESS and "pattern" not in found:
        found["pattern"] = _ENDLESS[found.pop("format")]
    kinds = found.get("type")
    listed = kinds if isinstance(kinds, list) else [kinds]
    if "integer" in listed and "number" not in listed and not found.keys() & {"enum", "const"}:
        if not found.keys() & {"minimum", "exclusiveMinimum"}:
            found["minimum"] = -EXACT_INTEGERS
        if not found.keys() & {"maximum", "exclusiveMaximum"}:
            found["maximum"] = EXACT_INTEGERS
    return found
