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
        """Numbers of the lines that have no result."""
        sql = "SELECT number FROM lines WHERE batch_id = ? AND result IS NULL ORDER BY number"
        with self._reading() as db:
            return [number for (number,) in db.execute(sql, (batch_id,))]

    def line(self, batch_id: str, number: int) -> Line:
        sql = "SELECT number, custom_id, body FROM lines WHERE batch_id = ? AND number = ?"
        with self._reading() as db:
            row: Any = db.execute(sql, (batch_id, number)).fetchone()
        return Line(*row)

    def finish_line(self, batch_id: str, number: int, result: Result) -> None:
        """Point of no return of a line: it is never run again. A second result changes nothing."""
        sql = "UPDATE lines SET result = ?1, failed = ?2 WHERE batch_id = ?3 AND number = ?4 AND result IS NULL"
        counts = "UPDATE batches SET completed = completed + 1 - ?2, failed = failed + ?2 WHERE id = ?1"
        failed = int(result.failed)
        with self._writing() as db:
            if db.execute(f"{sql} RETURNING number", (result.text, failed, batch_id, number)).fetchone() is not None:
                db.execute(counts, (batch_id, failed))


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
