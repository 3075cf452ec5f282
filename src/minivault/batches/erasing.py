"""Takes out of batches what was erased in the vault: lines that have not ended, and lines of files.

A line of a file is written over in its place by a shorter one that says so, filled up with spaces: no other byte moves.
Knows nothing of the vault but the ids of calls that were lines here: ``batch_...-NUMBER`` and more.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from minivault.batches.database import Connection
from minivault.batches.shelf import Shelf

PREFIX: Final = "batch_"
"""Of the ids of calls that were lines."""
ERRORS: Final = {"code": "content_erased", "message": "Its content was erased."}
_ID = re.compile(r"(batch_[0-9a-f]+)-([0-9]{1,9})(?![0-9])")
_MARK = "erased"

Place = tuple[int, bytes]
"""Of a line in a file: its first byte, and the line without its end."""


class Erasing(Shelf):
    """What :class:`minivault.batches.store.BatchStore` does with erasures."""

    def erased_mark(self) -> int:
        """How far the vault's erasures were followed; -1: not at all."""
        with self._reading() as db:
            found = db.execute("SELECT value FROM marks WHERE name = ?", (_MARK,)).get
        return -1 if found is None else int(found)

    def erase_calls(self, call_ids: Iterable[str], mark: int) -> int:
        """Take out the lines whose calls these are; then, that erasures were followed up to ``mark``. Idempotent.

        Returns how many lines of files and of unfinished batches were written over.
        """
        numbers: defaultdict[str, set[int]] = defaultdict(set)
        for call_id in call_ids:
            found = _ID.match(call_id)
            if found is not None:
                numbers[found[1]].add(int(found[2]))
        count = sum(self._erase_lines(batch_id, of_it) for batch_id, of_it in numbers.items())
        with self._writing() as db:
            db.execute("INSERT INTO marks VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (_MARK, mark))
        if count:
            self._forget()
        return count

    def _erase_lines(self, batch_id: str, numbers: set[int]) -> int:
        with self._reading() as db:
            sql = "SELECT input_file_id, output_file_id, error_file_id FROM batches WHERE id = ?"
            files: Any = db.execute(sql, (batch_id,)).fetchone()
        if files is None:
            return 0
        asked, *answered = files
        count = self._overwrite(asked, _requests(self._places(asked), numbers))
        ids = {_result_id(batch_id, number) for number in numbers}
        for file_id in filter(None, answered):
            count += self._overwrite(file_id, _results(self._places(file_id), ids))
        with self._writing() as db:
            return count + sum(_erase_line(db, batch_id, number) for number in numbers)

    def _places(self, file_id: str) -> Iterator[Place]:
        """The lines of a file, some of it read at a time; they end early if it is deleted meanwhile."""
        start, held, number = 0, b"", 0
        while True:
            with self._reading() as db:
                sql = "SELECT data FROM pieces WHERE file_id = ? AND number = ?"
                piece = db.execute(sql, (file_id, number)).get
            if piece is None:
                break
            *whole, held = (held + piece).split(b"\n")
            for line in whole:
                yield start, line
                start += len(line) + 1
            number += 1
        if held:
            yield start, held

    def _overwrite(self, file_id: str, places: Mapping[int, bytes]) -> int:
        """Put lines over others that are as long."""
        if not places:
            return 0
        with self._writing() as db:
            sql = "SELECT number, length(data) FROM pieces WHERE file_id = ? ORDER BY number"
            pieces: Any = db.execute(sql, (file_id,)).fetchall()
            start = 0
            for number, size in pieces:
                end = start + size
                touched = {at: line for at, line in places.items() if at < end and at + len(line) > start}
                if touched:
                    _overwrite_piece(db, file_id, number, start, touched)
                start = end
        return len(places)


def _overwrite_piece(db: Connection, file_id: str, number: int, start: int, lines: Mapping[int, bytes]) -> None:
    """``start``: where in its file the piece begins."""
    sql = "SELECT data FROM pieces WHERE file_id = ? AND number = ?"
    row: Any = db.execute(sql, (file_id, number)).fetchone()
    data = bytearray(row[0])
    for at, line in lines.items():
        first, last = max(at, start), min(at + len(line), start + len(data))
        data[first - start : last - start] = line[first - at : last - at]
    db.execute("UPDATE pieces SET data = ? WHERE file_id = ? AND number = ?", (bytes(data), file_id, number))


def _requests(places: Iterator[Place], numbers: set[int]) -> dict[int, bytes]:
    """What is written over requests of an input file. Lines without anything do not count."""
    found: dict[int, bytes] = {}
    counted = (place for place in places if place[1].strip())
    for number, (start, line) in enumerate(counted):
        if number in numbers:
            found[start] = _as_long({"custom_id": _field(line, "custom_id"), "body": {}}, line)
        if number >= max(numbers):
            break
    return found


def _results(places: Iterator[Place], ids: set[str]) -> dict[int, bytes]:
    """What is written over results of an output or error file."""
    found: dict[int, bytes] = {}
    for start, line in places:
        if (name := _field(line, "id")) in ids:
            gone = {"id": name, "custom_id": _field(line, "custom_id"), "response": None, "error": ERRORS}
            found[start] = _as_long(gone, line)
    return found


def _erase_line(db: Connection, batch_id: str, number: int) -> int:
    """A line of a batch that has not ended has failed now, whether it was run or not."""
    sql = "SELECT custom_id, failed, result IS NULL OR calls IS NOT NULL FROM lines WHERE batch_id = ? AND number = ?"
    row: Any = db.execute(sql, (batch_id, number)).fetchone()
    if row is None:
        return 0
    custom_id, failed, undecided = row
    gone = {"id": _result_id(batch_id, number), "custom_id": custom_id, "response": None, "error": ERRORS}
    sql = "UPDATE lines SET body = '{}', result = ?, failed = 1, calls = NULL WHERE batch_id = ? AND number = ?"
    db.execute(sql, (json.dumps(gone), batch_id, number))
    if undecided or not failed:
        completed = 0 if undecided else 1
        sql = "UPDATE batches SET completed = completed - ?, failed = failed + 1 WHERE id = ?"
        db.execute(sql, (completed, batch_id))
    return 1


def _result_id(batch_id: str, number: int) -> str:
    return f"batch_req_{batch_id.removeprefix(PREFIX)}_{number}"


def _field(line: bytes, name: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value.get(name) if isinstance(value, dict) else None


def _as_long(value: Mapping[str, Any], line: bytes) -> bytes:
    """``value`` as a line as long as ``line``; spaces alone where it is longer."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return (text if len(text) <= len(line) else b"").ljust(len(line))
