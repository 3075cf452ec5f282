"""Numbers for people: bytes and counts. Knows nothing of what they count."""

from __future__ import annotations


def size(number: int) -> str:
    """Bytes for people: ``11.9 MB``."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def count(number: int) -> str:
    """A number of parameters for people: ``1.1 B``."""
    return _scaled(number, ("", "K", "M", "B", "T"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    *steps, last = units
    for unit in steps:
        if number < 999.95:
            return f"{number:.0f} {unit}".rstrip() if unit == units[0] else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} {last}"
