"""The names that batches give: to the calls that are tries of their lines, and to results.

Nobody else may name a call so: the server draws another id for a client that asks for one with this beginning. Knows
nothing of what is named.
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "batch_"
"""Of batches' ids, and so of the ids of calls that were lines."""
_CALL = re.compile(r"(batch_[0-9a-f]+)-([0-9]{1,9})(?:-r[0-9]+)?(?:\.[0-9]+)?(?:-[0-9a-f]{16})?")
"""Behind a line's number: which try it is, which of several answers, and what the vault adds to an id that it has
already. It has a line's own where the disk failed, so that nobody knew of the first record when the line was tried
again; that of anybody else is told by its owner.
"""


def call_id(batch_id: str, number: int, attempt: int = 1) -> str:
    """Of one try of a line. ``number`` counts from 0, ``attempt`` from 1."""
    return f"{batch_id}-{number}" + (f"-r{attempt}" if attempt > 1 else "")


def line_of(call_id: str) -> tuple[str, int] | None:
    """The batch and the number of the line that a call was a try of; ``None``: it is no line's name."""
    found = _CALL.fullmatch(call_id)
    return None if found is None else (found[1], int(found[2]))


def result_id(batch_id: str, number: int) -> str:
    """Of a line's result, in the output or error file."""
    return f"batch_req_{batch_id.removeprefix(PREFIX)}_{number}"
