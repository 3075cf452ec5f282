"""Files and batches in an SQLite file of their own: what is acknowledged survives a crash, and a line ends once.

Encrypted as the vault is, with its key. Blocking, and safe to call from any thread. Knows nothing of HTTP, of models or
of what the lines ask.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from minivault.batches.database import Connection, empty_log, failures, open_database
from minivault.batches.values import (
    UNFINISHED,
    Batch,
    Counts,
    Fault,
    IllegalStep,
    Line,
    Result,
    Status,
    StoredFile,
)
from minivault.errors import InvalidRequest, LedgerUnavailable, RateLimited, UnknownRecord
from minivault.vault.cipher import VaultKey

PIECE_BYTES: Final = 256 << 10
CHUNK_LINES: Final = 1000
CHUNK_CHARACTERS: Final = 4 << 20
"""Of lines that are written at a time."""
MAX_FILES: Final = 10_000
"""Of one owner."""
MAX_UNFINISHED: Final = 20
"""Batches of one owner."""
BUSY_RETRY_SECONDS: Final = 60

_FILE = "SELECT id, owner, filename, purpose, bytes, created_at FROM files WHERE whole"
_BATCH = (
    "SELECT id, owner, address, endpoint, input_file_id, created_at, status, metadata, concurrency, times, faults,"
    " output_file_id, error_file_id, total, completed, failed FROM batches"
)
_PAGE = "AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR rowid < ?2) ORDER BY rowid DESC LIMIT ?3"
_PURPOSE = "AND (?4 IS NULL OR purpose = ?4)"
_INSERT = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0)"


class BatchStore:
    """The open file. One process at a time has it: that which has the vault."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, key_file: Path | None = None) -> BatchStore:
        """Open or create the file at ``path``; one that is plain is encrypted if there is a key.

        Raises:
            ConfigError: it is encrypted with another key, or is no such file.
            LedgerUnavailable: it cannot be read or written.
        """
        return cls(open_database(path, VaultKey.of(key_file)))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # -- files ---------------------------------------------------------------------------------------------------------

    def begin_file(self, owner: str | None, now: int) -> str:
        """A new file, which is not there for anyone until :meth:`finish_file`.

        Raises:
            InvalidRequest: its owner has too many.
        """
        file_id = new_id("file")
        with self._writing() as db:
            count = db.execute("SELECT count(*) FROM files WHERE owner IS ?", (owner,)).get
            if count >= MAX_FILES:
                raise InvalidRequest(f"file: at most {MAX_FILES} files are kept; delete some", param="file")
            db.execute("INSERT INTO files VALUES (?, ?, '', '', 0, ?, 0)", (file_id, owner, now))
        return file_id

    def append(self, file_id: str, data: bytes) -> None:
        with self._writing() as db:
            number = db.execute("SELECT count(*) FROM pieces WHERE file_id = ?", (file_id,)).get
            db.execute("INSERT INTO pieces VALUES (?, ?, ?)", (file_id, number, data))

    def finish_file(self, file_id: str, filename: str, purpose: str) -> StoredFile:
        with self._writing() as db:
            size = db.execute("SELECT coalesce(sum(length(data)), 0) FROM pieces WHERE file_id = ?", (file_id,)).get
            db.execute(
                "UPDATE files SET filename = ?, purpose = ?, bytes = ?, whole = 1 WHERE id = ?",
                (filename, purpose, size, file_id),
            )
        return self.file(file_id)

    def file(self, file_id: str, owner: str | None = None) -> StoredFile:
        """``owner``: only if it is theirs; ``None``: anyone's.

        Raises:
            UnknownRecord: there is none.
        """
        with self._reading() as db:
            row = db.execute(f"{_FILE} AND id = ?1 AND (?2 IS NULL OR owner = ?2)", (file_id, owner)).fetchone()
        if row is None:
            raise UnknownRecord("there is no such file")
        return StoredFile(*row)

    def files(
        self, owner: str | None = None, *, purpose: str | None = None, after: str | None = None, limit: int = 10_000
    ) -> list[StoredFile]:
        """Newest first, those behind the file ``after``.

        Raises:
            UnknownRecord: ``after`` is none of theirs, or not there any more.
        """
        with self._reading() as db:
            before = _place(db, "files", after, owner)
            rows = db.execute(f"{_FILE} {_PURPOSE} {_PAGE}", (owner, before, limit, purpose))
            return [StoredFile(*row) for row in rows]

    def content(self, file_id: str) -> Iterator[bytes]:
        """The pieces of a file. It may be deleted meanwhile: then they end early."""
        number = 0
        while True:
            with self._reading() as db:
                sql = "SELECT data FROM pieces WHERE file_id = ? AND number = ?"
                row = db.execute(sql, (file_id, number)).fetchone()
            if row is None:
                return
            yield row[0]
            number += 1

    def delete_file(self, file_id: str, owner: str | None = None) -> None:
        """
        Raises:
            UnknownRecord: there is none.
            InvalidRequest: a batch that has not ended needs it.
        """
        self.file(file_id, owner)
        with self._writing() as db:
            if any(batch.input_file_id == file_id for batch in self.unfinished()):
                raise InvalidRequest("file_id: a batch that has not ended needs this file", param="file_id")
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self._forget()

    def expire(self, before: int) -> int:
        """Delete the files that were made before then, except those that a batch that has not ended needs.

        Returns how many. Batches stay, and the ids of their files with them.
        """
        with self._writing() as db:
            sql = "DELETE FROM files WHERE whole AND created_at < ? AND id NOT IN (SELECT input_file_id FROM batches"
            gone = db.execute(f"{sql} WHERE status IN (?, ?, ?, ?)) RETURNING id", (before, *UNFINISHED)).fetchall()
        if gone:
            self._forget()
        return len(gone)

    def drop_file(self, file_id: str) -> None:
        """Let go of a file that was begun and never finished."""
        with self._writing() as db:
            db.execute("DELETE FROM files WHERE id = ? AND NOT whole", (file_id,))
        self._forget()

    def stored_bytes(self) -> int:
        """Of all whole files, of the lines of batches that have not ended, and of those that are about to be copied."""
        with self._reading() as db:
            return int(db.execute(_STORED_BYTES, (Status.VALIDATING.value,)).get)

    # -- batches -------------------------------------------------------------------------------------------------------

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
            db.execute(_INSERT, _row(batch))

    def step(self, batch_id: str, status: Status, now: int, faults: Sequence[Fault] = ()) -> Batch:
        """A batch becomes ``status``, in one step with looking where it is. Returns it as it is then.

        Raises:
            IllegalStep: not from where it is now; nothing is written.
        """
        with self._writing() as db:
            batch = self.batch(batch_id)
            return _step(db, batch, replace(batch.become(status, now), faults=tuple(faults) or batch.faults))

    def batch(self, batch_id: str, owner: str | None = None) -> Batch:
        """
        Raises:
            UnknownRecord: there is none, or it is not ``owner``'s.
        """
        with self._reading() as db:
            row = db.execute(f"{_BATCH} WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)", (batch_id, owner)).fetchone()
            if row is None:
                raise UnknownRecord("there is no such batch")
            return _batch(row)

    def batches(self, owner: str | None = None, *, after: str | None = None, limit: int = 20) -> list[Batch]:
        """Newest first, those behind the batch ``after``.

        Raises:
            UnknownRecord: ``after`` is none of theirs.
        """
        with self._reading() as db:
            before = _place(db, "batches", after, owner)
            rows = db.execute(f"{_BATCH} WHERE true {_PAGE}", (owner, before, limit)).fetchall()
            return [_batch(row) for row in rows]

    def unfinished(self) -> list[Batch]:
        """Oldest first."""
        with self._reading() as db:
            rows = db.execute(f"{_BATCH} WHERE status IN (?, ?, ?, ?) ORDER BY rowid", UNFINISHED).fetchall()
            return [_batch(row) for row in rows]

    def begin(self, batch_id: str, lines: Iterable[Line], now: int) -> Batch:
        """Write the lines of a batch, some at a time, and then that it is in progress. Returns it as it is then.

        What ``lines`` raises leaves the batch where it was, without lines.

        Raises:
            IllegalStep: it is no longer where it could begin.
        """
        with self._writing() as db:
            self.batch(batch_id).become(Status.IN_PROGRESS, now)
            _drop_lines(db, batch_id)  # of a process that did not come to their end
        try:
            total = self._copy(batch_id, lines)
            with self._writing() as db:
                batch = self.batch(batch_id)
                begun = _step(db, batch, batch.become(Status.IN_PROGRESS, now))
                db.execute("UPDATE batches SET total = ? WHERE id = ?", (total, batch_id))
            return replace(begun, counts=Counts(total))
        except BaseException:
            with contextlib.suppress(LedgerUnavailable), self._writing() as db:
                _drop_lines(db, batch_id)
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

    def end(self, batch_id: str, status: Status, now: int) -> Batch:
        """Write the output and error files of a batch, and what it is now, in one step; its lines go, also those
        without a result. Returns the batch with its files.

        Raises:
            IllegalStep: it cannot end so from where it is now; nothing is written.
        """
        with self._writing() as db:
            batch = self.batch(batch_id)
            ended = batch.become(status, now)
            output = _write_file(db, batch, 0, "output", now)
            error = _write_file(db, batch, 1, "error", now)
            _step(db, batch, replace(ended, output_file_id=output, error_file_id=error))
            _drop_lines(db, batch_id)
        self._forget()
        return self.batch(batch_id)

    def _forget(self) -> None:
        """Empty the write-ahead log, where what was deleted still stands. If the disk does not let it, the next one
        does, or the next start."""
        with contextlib.suppress(LedgerUnavailable), self._reading() as db:
            empty_log(db)

    # -- within --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._lock, failures():
            yield self._db

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._lock, failures(), self._db:
            yield self._db


def new_id(kind: str) -> str:
    return f"{kind}{'-' if kind == 'file' else '_'}{secrets.token_hex(12)}"


def _write_file(db: Connection, batch: Batch, failed: int, name: str, now: int) -> str | None:
    """A file of the results of one kind, in the order of the lines; ``None`` if there are none."""
    sql = "SELECT result FROM lines WHERE batch_id = ? AND failed = ? AND result IS NOT NULL ORDER BY number"
    file_id = new_id("file")
    size = number = 0
    held = bytearray()
    for (text,) in db.execute(sql, (batch.id, failed)):
        if not size:
            filename = f"{batch.id}_{name}.jsonl"
            row = (file_id, batch.owner, filename, "batch_output", now)
            db.execute("INSERT INTO files VALUES (?, ?, ?, ?, 0, ?, 1)", row)
        held += text.encode() + b"\n"
        size += len(text.encode()) + 1
        if len(held) >= PIECE_BYTES:
            db.execute("INSERT INTO pieces VALUES (?, ?, ?)", (file_id, number, bytes(held)))
            held.clear()
            number += 1
    if not size:
        return None
    if held:
        db.execute("INSERT INTO pieces VALUES (?, ?, ?)", (file_id, number, bytes(held)))
    db.execute("UPDATE files SET bytes = ? WHERE id = ?", (size, file_id))
    return file_id


_UPDATE = (
    "UPDATE batches SET owner = ?2, address = ?3, endpoint = ?4, input_file_id = ?5, created_at = ?6, status = ?7,"
    " metadata = ?8, concurrency = ?9, times = ?10, faults = ?11, output_file_id = ?12, error_file_id = ?13"
    " WHERE id = ?1 AND status = ?14 RETURNING id"
)
_STORED_BYTES = (
    "SELECT (SELECT coalesce(sum(bytes), 0) FROM files WHERE whole)"
    " + (SELECT coalesce(sum(octet_length(custom_id) + octet_length(body) + coalesce(octet_length(result), 0)), 0)"
    " FROM lines JOIN batches ON batches.id = batch_id WHERE status <> ?1)"
    " + (SELECT coalesce(sum(bytes), 0) FROM batches JOIN files ON files.id = input_file_id WHERE status = ?1)"
)


def _place(db: Connection, table: str, after: str | None, owner: str | None) -> int | None:
    """Where a page goes on."""
    if after is None:
        return None
    sql = f"SELECT rowid FROM {table} WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)"  # noqa: S608 - constants
    found: int | None = db.execute(sql, (after, owner)).get
    if found is None:
        raise UnknownRecord("after: there is nothing of this id to go on from", param="after")
    return found


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


def _drop_lines(db: Connection, batch_id: str) -> None:
    db.execute("DELETE FROM lines WHERE batch_id = ?", (batch_id,))


def _step(db: Connection, was: Batch, becomes: Batch) -> Batch:
    """
    Raises:
        IllegalStep: it is no longer what it was.
    """
    if db.execute(_UPDATE, (*_row(becomes), was.status.value)).fetchone() is None:
        raise IllegalStep(f"a batch that was {was.status} is so no longer")
    return becomes


def _row(batch: Batch) -> tuple[Any, ...]:
    return (
        batch.id,
        batch.owner,
        batch.address,
        batch.endpoint,
        batch.input_file_id,
        batch.created_at,
        batch.status.value,
        None if batch.metadata is None else json.dumps(dict(batch.metadata)),
        batch.concurrency,
        json.dumps(dict(batch.times)),
        json.dumps([fault.as_dict() for fault in batch.faults]),
        batch.output_file_id,
        batch.error_file_id,
    )


def _batch(row: Sequence[Any]) -> Batch:
    (batch_id, owner, address, endpoint, input_file_id, created_at, status, metadata, concurrency, times, faults,
     output, error, *counts) = row  # fmt: skip
    return Batch(
        id=batch_id,
        owner=owner,
        address=address,
        endpoint=endpoint,
        input_file_id=input_file_id,
        created_at=created_at,
        status=Status(status),
        metadata=None if metadata is None else json.loads(metadata),
        concurrency=concurrency,
        times=json.loads(times),
        faults=tuple(Fault(**fault) for fault in json.loads(faults)),
        output_file_id=output,
        error_file_id=error,
        counts=Counts(*counts),
    )
