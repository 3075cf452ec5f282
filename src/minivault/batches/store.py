"""Files and batches in an SQLite file of their own: what is acknowledged survives a crash, and a line ends once.

Encrypted as the vault is, with its key. Knows nothing of HTTP, of models or of what the lines ask.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from minivault.batches.database import Connection
from minivault.batches.erasing import Erasing
from minivault.batches.files import Files, write_results
from minivault.batches.lines import Lines, drop_lines
from minivault.batches.rows import INSERT_BATCH, SELECT_BATCH, batch_of, row_of, step_row
from minivault.batches.shelf import new_id, place_of
from minivault.batches.values import UNFINISHED, Batch, Fault, Status
from minivault.errors import RateLimited

__all__ = ["BatchStore", "new_id"]

MAX_UNFINISHED: Final = 20
"""Batches of one owner."""
BUSY_RETRY_SECONDS: Final = 60
_NOTE_USAGE = "UPDATE batches SET usage = ?2 WHERE id = ?1"
_BODY = "'$.response.body"
_USAGE = (
    f"SELECT max(json_extract(result, {_BODY}.model')),"  # noqa: S608 - constants
    f" coalesce(sum(coalesce(json_extract(result, {_BODY}.usage.prompt_tokens'),"
    f" json_extract(result, {_BODY}.usage.input_tokens'))), 0),"
    f" coalesce(sum(coalesce(json_extract(result, {_BODY}.usage.completion_tokens'),"
    f" json_extract(result, {_BODY}.usage.output_tokens'))), 0)"
    " FROM lines WHERE batch_id = ? AND failed = 0 AND calls IS NULL AND json_valid(result)"
)
_PAGE = "AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR rowid < ?2) ORDER BY rowid DESC LIMIT ?3"


class BatchStore(Files, Lines, Erasing):
    """The open file. One process at a time has it: that which has the vault."""

    def add(self, batch: Batch) -> None:
        """
        Raises:
            RateLimited: its owner has too many that have not ended.
        """
        with self._writing() as db:
            sql = "SELECT count(*) FROM batches WHERE owner IS ? AND status IN (?, ?, ?, ?)"
            if db.execute(sql, (batch.owner, *UNFINISHED)).get >= MAX_UNFINISHED:
                error = RateLimited(
                    f"At most {MAX_UNFINISHED} batches may be unfinished: wait until one has ended, or cancel one.",
                    retry_after=BUSY_RETRY_SECONDS,
                )
                error.code, error.limit = "too_many_batches", "concurrent"
                raise error
            db.execute(INSERT_BATCH, row_of(batch))

    def step(self, batch_id: str, status: Status, now: int, faults: Sequence[Fault] = ()) -> Batch:
        """A batch becomes ``status``, in one step with looking where it is. Returns it as it is then.

        Raises:
            IllegalStep: not from where it is now; nothing is written.
        """
        with self._writing() as db:
            batch = self.batch(batch_id)
            return step_row(db, batch, replace(batch.become(status, now), faults=tuple(faults) or batch.faults))

    def batches(self, owner: str | None = None, *, after: str | None = None, limit: int = 20) -> list[Batch]:
        """Newest first, those behind the batch ``after``.

        Raises:
            UnknownRecord: ``after`` is none of theirs.
        """
        with self._reading() as db:
            before = place_of(db, "batches", after, owner)
            rows = db.execute(f"{SELECT_BATCH} WHERE true {_PAGE}", (owner, before, limit)).fetchall()
            return [batch_of(row) for row in rows]

    def unfinished(self) -> list[Batch]:
        """Oldest first."""
        with self._reading() as db:
            rows = db.execute(f"{SELECT_BATCH} WHERE status IN (?, ?, ?, ?) ORDER BY rowid", UNFINISHED).fetchall()
            return [batch_of(row) for row in rows]

    def end(self, batch_id: str, status: Status, now: int) -> Batch:
        """Write the output and error files of a batch, and what it is now, in one step; its lines go, also those
        without a result. Returns the batch with its files.

        Raises:
            IllegalStep: it cannot end so from where it is now; nothing is written.
        """
        with self._writing() as db:
            batch = self.batch(batch_id)
            ended = batch.become(status, now)
            output = write_results(db, batch, 0, "output", now)
            error = write_results(db, batch, 1, "error", now)
            step_row(db, batch, replace(ended, output_file_id=output, error_file_id=error))
            db.execute(_NOTE_USAGE, (batch_id, json.dumps(_usage_of(db, batch_id))))
            drop_lines(db, batch_id)
        self._forget()
        return self.batch(batch_id)


def _usage_of(db: Connection, batch_id: str) -> dict[str, Any]:
    """The model that answered, and the tokens of all answers."""
    row: Any = db.execute(_USAGE, (batch_id,)).fetchone()
    model, asked, answered = row
    return {"model": model, "input_tokens": asked, "output_tokens": answered}
