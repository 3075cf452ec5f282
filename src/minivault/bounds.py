"""Says in words what a value must be: ``must be an integer from 0 to 65535``. Standard library only.

Reads faults as pydantic lists them, as plain mappings. Knows nothing of which values there are, and repeats none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_KINDS = {"int": "an integer", "float": "a number", "finite": "a number", "bool": "true or false"}
_KINDS |= {"string": "text", "path": "a path", "list": "a list"}


def in_words(fault: Mapping[str, Any], kind: type | None = None, bounds: Mapping[str, float] | None = None) -> str:
    """What the value of this fault must be. ``kind`` and ``bounds`` (ge, gt, le, lt) are what else is known."""
    type_, context = str(fault["type"]), fault.get("ctx", {})
    bound = _BOUNDS.get(type_)
    if bound is not None:
        return f"must be {_number(kind)}{span(bounds or {bound: context[bound]})}"
    if type_ == "literal_error":
        return f"must be {context['expected']}"
    if type_ in ("string_too_short", "string_too_long"):
        return f"must have {_length(context)}"
    if type_ == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    known = next((word for name, word in _KINDS.items() if type_.startswith(f"{name}_")), None)
    if known is None:
        return "is not of the right form"
    return f"must be {known}" + (span(bounds or {}) if type_.startswith(("int_", "float_", "finite_")) else "")


def span(bounds: Mapping[str, float]) -> str:
    """The bounds of a number, to be put behind its kind: `` from 1 to 64``; empty for none."""
    low = f"{bounds['gt']:g}" if "gt" in bounds else _exact(bounds.get("ge"))
    high = _exact(bounds.get("le", bounds.get("lt")))
    if "ge" in bounds and "le" in bounds:
        return f" from {low} to {high}"
    above = f"above {low}" if "gt" in bounds else f"at least {low}" if low else ""
    below = f"below {high}" if "lt" in bounds else f"at most {high}" if high else ""
    said = " and ".join(part for part in (above, below) if part)
    return f", {said}" if said else ""


def _exact(value: float | None) -> str:
    return "" if value is None else str(int(value)) if value == int(value) else str(value)


def _number(kind: type | None) -> str:
    return "an integer" if kind is int else "a number"


def _length(context: Mapping[str, Any]) -> str:
    if "min_length" in context:
        return f"at least {context['min_length']} character" + ("" if context["min_length"] == 1 else "s")
    return f"at most {context['max_length']} characters"
