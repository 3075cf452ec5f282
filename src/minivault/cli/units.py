"""Numbers, times and other values for people. Knows nothing of what they count."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d+)?(Z|\+00:00)")

_UNIT = re.compile(r"_(bytes|seconds|ms)$")


def size(number: int) -> str:
    """Bytes for people: ``11.9 MiB``."""
    return _scaled(number, ("B", "KiB", "MiB", "GiB", "TiB"), 1024)


def count(number: int) -> str:
    """A number of parameters for people: ``1.1 B``."""
    return _scaled(number, ("", "K", "M", "B", "T"), 1000)


def counted(number: int, noun: str) -> str:
    """``1 record``, ``2 records``, ``1,000 records``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """The two largest parts of a time: ``0.38 s``, ``42 s``, ``3 min 5 s``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    parts, rest = [], int(seconds)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, length)
        parts.append(f"{number} {unit}" if number else "")
    first = next(place for place, part in enumerate(parts) if part)
    return " ".join(part for part in parts[first : first + 2] if part)


def moment(text: str) -> str:
    """A time of the wire to the second: ``2026-01-31 12:00:00 UTC``; any other text as it is."""
    found = _TIME.fullmatch(text)
    return text if found is None else f"{found[1]} {found[2]} UTC"


def word(name: str, value: Any) -> str:
    """A value for people, in the unit that the end of its name says."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(word("", one) for one in value)
    if isinstance(value, int | float):
        if name.endswith("_bytes"):
            return size(int(value))
        if name.endswith(("_seconds", "expires_in")):
            return duration(value)
        if name.endswith("_usage"):
            return f"{value:.0%}"
        return f"{value:.0f} ms" if name.endswith("_ms") else str(value)
    return moment(str(value))


def named(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values for people; nested objects as dotted names: ``engine.running``. A value bears its unit, not its
    name."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from named(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{_UNIT.sub('', name)}", word(name, value)


def _scaled(number: float, units: tuple[str, ...], step: int) -> str:
    *steps, last = units
    for unit in steps:
        if number < step - 0.05:
            return f"{number:.0f} {unit}".rstrip() if unit == units[0] else f"{number:.1f} {unit}"
        number /= step
    return f"{number:.1f} {last}"
