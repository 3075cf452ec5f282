"""Takes the lines of erased calls out of one file of the mirror, in short steps; the file is replaced whole.

Knows nothing of which file is the newest, or of who appends to it: between the last two steps of a file nothing waits,
so whoever appends from the same thread loses no line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minivault.files import PLAIN, put_in_place, sync_folder
from minivault.vault.database import Connection

STEP_BYTES = 1 << 18
_INDEX = re.compile(rb'"index": ([0-9]{1,18})\}\n\Z')
_ERASED = "SELECT request_id FROM calls WHERE outcome_index = ? AND erased_index IS NOT NULL"


def without_erased(path: Path, db: Connection) -> Iterator[None]:
    """Write the file anew without the lines of erased calls, if it has one. Yields between steps.

    Raises:
        OSError: it could not be done; the file is as it was.
    """
    part = path.with_name(path.name + ".part")
    with path.open("rb") as file:
        kept: BinaryIO | None = None
        try:
            while True:
                start = file.tell()
                lines = file.readlines(STEP_BYTES)
                if not lines:
                    break
                keep = [line for line in lines if not _is_erased(line, db)]
                if kept is None and len(keep) < len(lines):
                    kept = open(part, "wb", opener=_for_the_owner)  # noqa: SIM115 - an opener; closed below
                    yield from _copy(path, kept, start)
                if kept is not None:
                    kept.writelines(keep)
                yield
            if kept is not None:
                kept.flush()
                os.fsync(kept.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            if kept is not None:
                kept.close()
    if kept is not None:
        put_in_place(part, path)
        sync_folder(path.parent)


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


def _copy(source: Path, target: BinaryIO, size: int) -> Iterator[None]:
    with source.open("rb") as file:
        while size > 0:
            piece = file.read(min(size, STEP_BYTES))
            target.write(piece)
            size -= len(piece)
            yield


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags | PLAIN, 0o600)
