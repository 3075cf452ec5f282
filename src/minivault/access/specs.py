"""How limits are written: ``60/minute``, ``100000/day; 5000/hour``. The notation is that of the ``limits`` library.

Knows nothing of who is limited, or of counting.
"""

from __future__ import annotations

from functools import lru_cache

from limits import parse_many

from minivault.errors import InvalidRequest

MAX_LIMITS = 8
MAX_AMOUNT = 10**15
MAX_SECONDS = 100 * 366 * 86_400
"""Of a window."""


@lru_cache(maxsize=1024)
def parse_spec(spec: str, param: str) -> tuple[tuple[int, int], ...]:
    """Pairs of an amount and a window in seconds, shortest window first; none for an empty ``spec``.

    Raises:
        InvalidRequest: it cannot be read; ``param`` names the field or setting.
    """
    if not spec.strip():
        return ()
    try:
        items = parse_many(spec) if len(spec) <= 200 else []
    except ValueError:
        items = []
    if not 0 < len(items) <= MAX_LIMITS or not all(
        1 <= item.amount <= MAX_AMOUNT and 1 <= item.get_expiry() <= MAX_SECONDS for item in items
    ):
        raise InvalidRequest(
            f'{param}: must be like 60/minute, or several such as "60/minute; 1000/day", with amounts up to '
            f"{MAX_AMOUNT} and windows up to 100 years; empty for no limit",
            param=param,
        )
    # One window for each span: 60/minute; 30/60 second are two limits of the same, and the smaller binds.
    spans: dict[int, int] = {}
    for item in items:
        seconds = item.get_expiry()
        spans[seconds] = min(item.amount, spans.get(seconds, item.amount))
    return tuple((amount, seconds) for seconds, amount in sorted(spans.items()))
