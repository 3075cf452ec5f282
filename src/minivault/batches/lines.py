"""The lines of batches that have not ended: their requests, and what became of each, once. Knows nothing of files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from minivault.batches.database import Connection
from minivault.batches.rows import SELECT_BATCH, batch_of, step_row
from minivault.batches.shelf import Shelf
from minivault.batches.values import Batch, Counts, Line, Result, Status
from minivault.errors import LedgerUnavailable, UnknownRecord

CHUNK_LINES: Final = 1000
CHUNK_CHARACTERS: Final = 4 << 20
"""Of lines that are written at a time."""

_UNDECIDED = "(result IS NULL OR calls IS NOT NULL)"
_COUNT = "UPDATE batches SET completed = completed + 1 - ?2, failed = failed + ?2 WHERE id = ?1"


class Lines(Shelf):
    """What :class:`minivault.batches.store.BatchStore` does with lines."""

    def batch(self, batch_id: str, owner: str | None = None) -> Batch:
        """
        Raises:
            UnknownRecord: there is none, or it is not ``owner``'s.
        """
        with self._reading() as db:
            row = db.execute(
                f"{SELECT_BATCH} WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)", (batch_id, owner)
            ).fetchone()
            if row is None:
                raise UnknownRecord("there is no such batch")
            return batch_of(row)

    def begin(self, batch_id: str, lines: Iterable[Line], now: int) -> Batch:
        """Write the lines of a batch, some at a time, and then that it is in progress. Returns it as it is then.

        What ``lines`` raises leaves the batch where it was, without lines.

        Raises:
            IllegalStep: it is no longer where it could begin.
        """
        with self._writing() as db:
            self.batch(batch_id).become(Status.IN_PROGRESS, now)
            drop_lines(db, batch_id)  # of a process that did not come to their end
        try:
            total = self._copy(batch_id, lines)
            with self._writing() as db:
                batch = self.batch(batch_id)
                begun = step_row(db, batch, batch.become(Status.IN_PROGRESS, now))
                db.execute("UPDATE batches SET total = ? WHERE id = ?", (total, batch_id))
            return replace(begun, counts=Counts(total))
        except BaseException:
            with contextlib.suppress(LedgerUnavailable), self._writing() as db:
                drop_lines(db, batch_id)
            raise

    def _copy(self, batch_id: str, lines: Iterable[Line]) -> int:
        """How many they were. They are read while nothing is locked, and never more than a chunk of them held."""
        total = 0
        for chunk in _chunks(lines):
            with self._writing() as db:
                self.batch(batch_id).become(Status.IN_PROGRESS, 0)  # it may be cancelled meanwhile
                db.executemany(
                    "INSERT INTO lines (batch_id, number, custom_id, body) VALUES (?, ?, ?, ?)",
                    ((batch_id, line.number, line.custom_id, line.body) for line in chunk),
                )
            total += len(chunk)
        return total

    def pending(self, batch_id: str) -> list[int]:
        """Numbers of the lines that have no result, or a draft of one."""
        sql = f"SELECT number FROM lines WHERE batch_id = ? AND {_UNDECIDED} ORDER BY number"  # noqa: S608 - constants
        with self._reading() as db:
            return [number for (number,) in db.execute(sql, (batch_id,))]

    def drafted(self, batch_id: str) -> list[int]:
        """Numbers of the lines that have a draft of a result."""
        sql = "SELECT number FROM lines WHERE batch_id = ? AND calls IS NOT NULL ORDER BY number"
        with self._reading() as db:
            return [number for (number,) in db.execute(sql, (batch_id,))]

    def line(self, batch_id: str, number: int) -> Line:
        """
        Raises:
            UnknownRecord: there is none; its batch may have ended.
        """
        sql = f"SELECT number, custom_id, body, calls, NOT {_UNDECIDED} FROM lines WHERE batch_id = ? AND number = ?"  # noqa: S608 - constants
        with self._reading() as db:
            row: Any = db.execute(sql, (batch_id, number)).fetchone()
        if row is None:
            raise UnknownRecord("there is no such line")
        number, custom_id, body, calls, ended = row
        return Line(number, custom_id, body, calls, ended=bool(ended))

    def draft_line(self, batch_id: str, number: int, result: Result, calls: str) -> bool:
        """Keep a result that counts for nothing until :meth:`release_draft`. One that is there, or a result, stays.
        Returns whether the draft of these ``calls`` is there now. Idempotent."""
        sql = "UPDATE lines SET result = ?, failed = ?, calls = ? WHERE batch_id = ? AND number = ? AND result IS NULL"
        with self._writing() as db:
            db.execute(sql, (result.text, int(result.failed), calls, batch_id, number))
            sql = "SELECT 1 FROM lines WHERE batch_id = ? AND number = ? AND calls = ?"
            return db.execute(sql, (batch_id, number, calls)).get is not None

    def release_draft(self, batch_id: str, number: int) -> bool | None:
        """The calls of a draft are on record: it is the line's result. Returns whether that says that the line failed;
        ``None`` if there was no draft."""
        sql = "UPDATE lines SET calls = NULL WHERE batch_id = ? AND number = ? AND calls IS NOT NULL RETURNING failed"
        with self._writing() as db:
            row = db.execute(sql, (batch_id, number)).fetchone()
            if row is None:
                return None
            db.execute(_COUNT, (batch_id, row[0]))
            return bool(row[0])

    def drop_draft(self, batch_id: str, number: int) -> None:
        """The calls of a draft will never be on record: the line has no result."""
        sql = "UPDATE lines SET result = NULL, failed = NULL, calls = NULL"
        with self._writing() as db:
            db.execute(f"{sql} WHERE batch_id = ? AND number = ? AND calls IS NOT NULL", (batch_id, number))

    def finish_line(self, batch_id: str, number: int, result: Result) -> None:
        """Point of no return of a line: it is never run again. A second result changes nothing."""
        failed = int(result.failed)
        sql = (
            "UPDATE lines SET result = ?1, failed = ?2, calls = NULL"  # noqa: S608 - constants
            f" WHERE batch_id = ?3 AND number = ?4 AND {_UNDECIDED} RETURNING number"
        )
        with self._writing() as db:
            if db.execute(sql, (result.text, failed, batch_id, number)).fetchone() is not None:
                db.execute(_COUNT, (batch_id, failed))


def drop_lines(db: Connection, batch_id: str) -> None:
    db.execute("DELETE FROM lines WHERE batch_id = ?", (batch_id,))


def _chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    held = 0
    for line in lines:
        chunk.append(line)
        held += len(line.body)
        if len(chunk) == CHUNK_LINES or held >= CHUNK_CHARACTERS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
