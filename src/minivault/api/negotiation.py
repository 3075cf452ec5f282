"""Which framing an ``Accept`` header asks for. Pure; knows nothing of requests or responses."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"^[\w!#$&^.+*-]+/[\w!#$&^.+*-]+$")


def preferred(accept: str | None, offers: Sequence[str]) -> str | None:
    """The best of ``offers`` (media types, best first), or ``None`` when the header names none of them.

    A wildcard asks for nothing in particular, so it never chooses; a type with ``q=0`` is never chosen.
    """
    ranges = _ranges(accept or "")
    best: tuple[float, str] | None = None
    for offer in offers:
        quality = ranges.get(offer, 0.0)
        if quality > 0 and (best is None or quality > best[0]):
            best = (quality, offer)
    return best[1] if best else None


def _ranges(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if _TOKEN.match(media_type):
            found.setdefault(media_type, _quality(parameters))
    return found


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
