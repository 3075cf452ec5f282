"""Takes out of batches what was erased in the vault: lines that have not ended, and lines of files.

First an erasure is noted, and lines of batches that have not ended go; from then on files that such a line may stand
in are not read. Then these are written over, a batch at a time. A line of a file is written over in its place by a
shorter one that says so, filled up with spaces: no other byte moves. Knows nothing of the vault but the names and the
owners of calls that were lines here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from minivault.batches.database import Connection
from minivault.batches.names import line_of, result_id
from minivault.batches.shelf import Shelf

ERRORS: Final = {"code": "content_erased", "message": "Its content was erased."}
CHUNK_BYTES: Final = 4 << 20
"""Of lines that are written over at a time."""
_MARK = "erased"
_NOTE = (
    "INSERT OR IGNORE INTO erasures SELECT id, ?3 FROM batches WHERE id = ?1 AND owner IS ?2 AND ?3 < total"
    " RETURNING number"
)

ErasedCall = tuple[str, str | None]
"""Its id, and the API key whose call it was."""
Place = tuple[int, bytes]
"""Of a line in a file: its first byte, and the line without its end."""


class Erasing(Shelf):
    """What :class:`minivault.batches.store.BatchStore` does with erasures."""

    def erased_mark(self) -> str:
        """How far the vault's erasures were noted, in the vault's words; empty: not at all."""
        with self._reading() as db:
            found = db.execute("SELECT value FROM marks WHERE name = ?", (_MARK,)).get
        return "" if found is None else str(found)

    def note_erased(self, calls: Iterable[ErasedCall], mark: str) -> None:
        """Of these calls, those that were lines of their owner's batches are to be erased: at once from batches that
        have not ended, and by :meth:`write_over` from files. Erasures were noted up to ``mark``. Idempotent.

        One transaction, in which no batch can end: it has ended before, and then its files are known, or they will be
        written from what is left.
        """
        with self._writing() as db:
            for call_id, owner in calls:
                line = line_of(call_id)
                if line is not None and db.execute(_NOTE, (line[0], owner, line[1])).fetchall():
                    _erase_line(db, *line)
            db.execute("INSERT INTO marks VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (_MARK, mark))

    def noted(self) -> list[str]:
        """The batches of which something is to be erased from files."""
        with self._reading() as db:
            return [batch_id for (batch_id,) in db.execute("SELECT DISTINCT batch_id FROM erasures")]

    def write_over(self, batch_id: str) -> None:
        """Erase from a batch's files what was noted. Idempotent; until it has come to its end none of them is read."""
        with self._reading() as db:
            sql = "SELECT number FROM erasures WHERE batch_id = ?"
            numbers = {number for (number,) in db.execute(sql, (batch_id,))}
            sql = "SELECT input_file_id, output_file_id, error_file_id FROM batches WHERE id = ?"
            files: Any = db.execute(sql, (batch_id,)).fetchone()
        if not numbers or files is None:
            return
        asked, *answered = files
        self._write_over(asked, _requests(self._places(asked), numbers))
        ids = {result_id(batch_id, number) for number in numbers}
        for file_id in filter(None, answered):
            self._write_over(file_id, _results(self._places(file_id), ids))
        with self._writing() as db:
            sql = "DELETE FROM erasures WHERE batch_id = ? AND number = ?"
            db.executemany(sql, ((batch_id, number) for number in numbers))
        self._forget()

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

    def _write_over(self, file_id: str, gone: Iterable[Place]) -> None:
        """Put lines over others that are as long, and follow on one another."""
        held: dict[int, bytes] = {}
        size = 0
        for at, line in gone:
            held[at] = line
            size += len(line)
            if size >= CHUNK_BYTES:
                self._overwrite(file_id, held)
                held, size = {}, 0
        self._overwrite(file_id, held)

    def _overwrite(self, file_id: str, places: Mapping[int, bytes]) -> None:
        if not places:
            return
        last = max(places)
        first, behind = min(places), last + len(places[last])
        with self._writing() as db:
            sql = "SELECT number, length(data) FROM pieces WHERE file_id = ? ORDER BY number"
            pieces: Any = db.execute(sql, (file_id,)).fetchall()
            start = 0
            for number, size in pieces:
                end = start + size
                if start < behind and end > first:
                    touched = {at: line for at, line in places.items() if at < end and at + len(line) > start}
                    _overwrite_piece(db, file_id, number, start, touched)
                start = end


def _overwrite_piece(db: Connection, file_id: str, number: int, start: int, lines: Mapping[int, bytes]) -> None:
    """``start``: where in its file the piece begins."""
    sql = "SELECT data FROM pieces WHERE file_id = ? AND number = ?"
    row: Any = db.execute(sql, (file_id, number)).fetchone()
    data = bytearray(row[0])
    for at, line in lines.items():
        first, last = max(at, start), min(at + len(line), start + len(data))
        data[first - start : last - start] = line[first - at : last - at]
    db.execute("UPDATE pieces SET data = ? WHERE file_id = ? AND number = ?", (bytes(data), file_id, number))


def _requests(places: Iterator[Place], numbers: set[int]) -> Iterator[Place]:
    """What is written over requests of an input file. Lines without anything do not count."""
    counted = (place for place in places if place[1].strip())
    last = max(numbers)
    for number, (start, line) in enumerate(counted):
        if number in numbers:
            yield start, _as_long({"custom_id": _field(line, "custom_id"), "body": {}}, line)
        if number >= last:
            return


def _results(places: Iterator[Place], ids: set[str]) -> Iterator[Place]:
    """What is written over results of an output or error file."""
    for start, line in places:
        if (name := _field(line, "id")) in ids:
            gone = {"id": name, "custom_id": _field(line, "custom_id"), "response": None, "error": ERRORS}
            yield start, _as_long(gone, line)


def _erase_line(db: Connection, batch_id: str, number: int) -> None:
    """A line of a batch that has not ended has failed now, whether it was run or not."""
    sql = "SELECT custom_id, failed, result IS NULL OR calls IS NOT NULL FROM lines WHERE batch_id = ? AND number = ?"
    row: Any = db.execute(sql, (batch_id, number)).fetchone()
    if row is None:
        return
    custom_id, failed, undecided = row
    gone = {"id": result_id(batch_id, number), "custom_id": custom_id, "response": None, "error": ERRORS}
    sql = "UPDATE lines SET body = '{}', result = ?, failed = 1, calls = NULL WHERE batch_id = ? AND number = ?"
    db.execute(sql, (json.dumps(gone), batch_id, number))
    if undecided or not failed:
        completed = 0 if undecided else 1
        sql = "UPDATE batches SET completed = completed - ?, failed = failed + 1 WHERE id = ?"
        db.execute(sql, (completed, batch_id))


def _field(line: bytes, name: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value.get(name) if isinstance(value, dict) else None


def _as_long(value: Mapping[str, Any], line: bytes) -> bytes:
    """``value`` as a line as long as ``line``; spaces alone where it is longer."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return (text if len(text) <= len(line) else b"").ljust(len(line))
