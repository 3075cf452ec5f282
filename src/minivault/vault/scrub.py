"""Takes the lines of erased calls out of one file of the mirror, in short steps; the file is replaced whole.

Knows nothing of which file is the newest. Between the last look at a file and its rename no step ends: who appends to
it from the same thread loses no line, and lets go of the file in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from minivault.files import replacing
from minivault.vault.database import Connection

STEP_BYTES = 1 << 18
_INDEX = re.compile(rb'"index": ([0-9]{1,18})\}\n\Z')
_ERASED = "SELECT request_id FROM calls WHERE outcome_index = ? AND erased_index IS NOT NULL"


def without_erased(path: Path, db: Connection, let_go: Callable[[], None] | None = None) -> Iterator[None]:
    """Write the file anew without the lines of erased calls, if it has one. Yields between steps.

    ``let_go``: called right before the rename; the file must be open nowhere then, or Windows does not replace it.

    Raises:
        OSError: it could not be done; the file is as it was.
    """
    start = yield from _first_erased(path, db)
    if start is None:
        return
    with replacing(path) as kept:
        with path.open("rb") as file:
            yield from _copy(file, kept, start)
            while lines := file.readlines(STEP_BYTES):
                kept.writelines(line for line in lines if not _is_erased(line, db))
                yield
        if let_go is not None:
            let_go()


def _first_erased(path: Path, db: Connection) -> Generator[None, None, int | None]:
    """Where the lines begin among which is the first of an erased call; ``None``: there is none."""
    with path.open("rb") as file:
        start = 0
        while lines := file.readlines(STEP_BYTES):
            if any(_is_erased(line, db) for line in lines):
                return start
            start = file.tell()
            yield
    return None


def _is_erased(line: bytes, db: Connection) -> bool:
    """A line of another vault may bear the same index, so the id is compared as well."""
    found = _INDEX.search(line)
    request_id = None if found is None else db.execute(_ERASED, (int(found[1]),)).get
    if request_id is None:
        return False
    try:
        return bool(json.loads(line)["id"] == request_id)
    except (ValueError, KeyError, TypeError):
        return False


def _copy(file: BinaryIO, target: BinaryIO, size: int) -> Iterator[None]:
    while size > 0:
        piece = file.read(min(size, STEP_BYTES))
        if not piece:
            raise OSError("the file became shorter")
        target.write(piece)
        size -= len(piece)
        yield
