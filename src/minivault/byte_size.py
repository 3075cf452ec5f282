"""Sizes in bytes as people write them: ``512MiB``, ``8GiB``, ``2G``, ``8GB``, or a plain number. Standard library only.

``K``, ``M``, ``G``, ``T`` alone and with ``iB`` are powers of 1024, with ``B`` of 1000. Knows nothing of what is
measured.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

EXAMPLES: Final = "such as 512MiB, 8GiB or 2G"
_UNITS: Final = "KMGTP"
_SIZE: Final = re.compile(rf"([0-9]{{1,18}}(?:\.[0-9]{{1,9}})?) ?(?:([{_UNITS}])(i?B)?|B)?", re.IGNORECASE)


def byte_size(given: Any) -> Any:
    """The bytes that a text stands for, a part of a byte cut off; what is no text is left as it is.

    Raises:
        ValueError: it is no size.
    """
    if not isinstance(given, str):
        return given
    found = _SIZE.fullmatch(given.strip())
    if found is None or ("." in found[1] and found[2] is None):
        raise ValueError(f"must be a number of bytes, {EXAMPLES}")
    step = 1000 if (found[3] or "").upper() == "B" else 1024
    power = 0 if found[2] is None else _UNITS.index(found[2].upper()) + 1
    return int(Decimal(found[1]) * step**power)


def written(count: int) -> str:
    """A size as :func:`byte_size` reads it, exactly, in the largest unit that leaves no fraction: ``100MiB``."""
    unit = ""
    for larger in _UNITS:
        if count == 0 or count % 1024:
            break
        count //= 1024
        unit = f"{larger}iB"
    return f"{count}{unit}"
