"""Files of clients and of batches, kept in pieces: whole or not there. Knows nothing of what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from minivault.batches.database import Connection
from minivault.batches.shelf import Shelf, new_id, place_of
from minivault.batches.values import UNFINISHED, Batch, Status, StoredFile
from minivault.errors import InvalidRequest, LedgerUnavailable, UnknownRecord

PIECE_BYTES: Final = 256 << 10
MAX_FILES: Final = 10_000
"""Of one owner."""
ERASED_SECONDS: Final = 1
"""Until somebody may ask again for a file that something is taken out of."""

_FILE = "SELECT id, owner, filename, purpose, bytes, created_at, expires_at FROM files WHERE whole"
_NEWEST = "AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR rowid < ?2) ORDER BY rowid DESC LIMIT ?3"
_OLDEST = "AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR rowid > ?2) ORDER BY rowid LIMIT ?3"
_PURPOSE = "AND (?4 IS NULL OR purpose = ?4)"
_STORED_BYTES = (
    "SELECT (SELECT coalesce(sum(bytes), 0) FROM files WHERE whole)"
    " + (SELECT coalesce(sum(octet_length(custom_id) + octet_length(body) + coalesce(octet_length(result), 0)), 0)"
    " FROM lines JOIN batches ON batches.id = batch_id WHERE status <> ?1)"
    " + (SELECT coalesce(sum(bytes), 0) FROM batches JOIN files ON files.id = input_file_id WHERE status = ?1)"
)
_FILES = "(input_file_id, output_file_id, error_file_id)"
"""Of a batch."""
_BEING_ERASED = (
    "SELECT 1 FROM batches WHERE EXISTS (SELECT 1 FROM erasures)"  # noqa: S608 - constants
    f" AND ? IN {_FILES} AND EXISTS (SELECT 1 FROM erasures WHERE batch_id = batches.id)"
)


class Files(Shelf):
    """What :class:`minivault.batches.store.BatchStore` does with files."""

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
            db.execute("INSERT INTO files VALUES (?, ?, '', '', 0, ?, 0, NULL)", (file_id, owner, now))
        return file_id

    def append(self, file_id: str, data: bytes) -> None:
        with self._writing() as db:
            number = db.execute("SELECT count(*) FROM pieces WHERE file_id = ?", (file_id,)).get
            db.execute("INSERT INTO pieces VALUES (?, ?, ?)", (file_id, number, data))

    def finish_file(self, file_id: str, filename: str, purpose: str, seconds: int | None = None) -> StoredFile:
        """``seconds``: how long it stays; ``None``: until it is deleted."""
        with self._writing() as db:
            size = db.execute("SELECT coalesce(sum(length(data)), 0) FROM pieces WHERE file_id = ?", (file_id,)).get
            sql = "UPDATE files SET filename = ?, purpose = ?, bytes = ?, whole = 1, expires_at = created_at + ?"
            db.execute(f"{sql} WHERE id = ?", (filename, purpose, size, seconds, file_id))
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
        self,
        owner: str | None = None,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        oldest_first: bool = False,
    ) -> list[StoredFile]:
        """Those behind the file ``after``, in the order that is asked for: newest first, if none is.

        Raises:
            UnknownRecord: ``after`` is none of theirs, or not there any more.
        """
        with self._reading() as db:
            before = place_of(db, "files", after, owner)
            page = _OLDEST if oldest_first else _NEWEST
            rows = db.execute(f"{_FILE} {_PURPOSE} {page}", (owner, before, limit, purpose))
            return [StoredFile(*row) for row in rows]

    def content(self, file_id: str) -> Iterator[bytes]:
        """The pieces of a file. It may be deleted meanwhile: then they end early.

        Raises:
            LedgerUnavailable: something in it was erased, and is not written over yet. Raised at once.
        """
        with self._reading() as db:
            if db.execute(_BEING_ERASED, (file_id,)).get is not None:
                raise LedgerUnavailable("What was erased is being taken out of this file", retry_after=ERASED_SECONDS)
        return self._pieces(file_id)

    def _pieces(self, file_id: str) -> Iterator[bytes]:
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
            needed = "SELECT 1 FROM batches WHERE input_file_id = ? AND status IN (?, ?, ?, ?)"
            if db.execute(needed, (file_id, *UNFINISHED)).get is not None:
                raise InvalidRequest("file_id: a batch that has not ended needs this file", param="file_id")
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self._forget()

    def expire(self, now: int, before: int | None = None) -> int:
        """Delete the files whose time is over, but for those that a batch that has not ended needs; with ``before``,
        also files that were made before then, and batches that were and have ended, once all their files are gone:
        what is erased in the vault is looked up by the batch.

        Returns how many.
        """
        needed = "SELECT input_file_id FROM batches WHERE status IN (?3, ?4, ?5, ?6)"
        files = (
            "DELETE FROM files WHERE whole AND (expires_at <= ?1 OR created_at < ?2)"  # noqa: S608 - constants
            f" AND id NOT IN ({needed}) RETURNING id"
        )
        batches = (
            "DELETE FROM batches WHERE created_at < ? AND status NOT IN (?, ?, ?, ?)"  # noqa: S608 - constants
            f" AND NOT EXISTS (SELECT 1 FROM files WHERE files.id IN {_FILES}) RETURNING id"
        )
        with self._writing() as db:
            gone = len(db.execute(files, (now, before, *UNFINISHED)).fetchall())
            gone += len(db.execute(batches, (before, *UNFINISHED)).fetchall())
        if gone:
            self._forget()
        return gone

    def drop_file(self, file_id: str) -> None:
        """Let go of a file that was begun and never finished."""
        with self._writing() as db:
            db.execute("DELETE FROM files WHERE id = ? AND NOT whole", (file_id,))
        self._forget()

    def stored_bytes(self) -> int:
        """Of all whole files, of the lines of batches that have not ended, and of those that are about to be copied."""
        with self._reading() as db:
            return int(db.execute(_STORED_BYTES, (Status.VALIDATING.value,)).get)


def write_results(db: Connection, batch: Batch, failed: int, name: str, now: int) -> str | None:
    """A file of the results of one kind, in the order of the lines; ``None`` if there are none."""
    sql = "SELECT result FROM lines WHERE batch_id = ? AND failed = ? AND calls IS NULL ORDER BY number"
    file_id = new_id("file")
    size = number = 0
    held = bytearray()
    for (text,) in db.execute(sql, (batch.id, failed)):
        if not size:
            filename = f"{batch.id}_{name}.jsonl"
            expires_at = None if batch.output_seconds is None else now + batch.output_seconds
            row = (file_id, batch.owner, filename, "batch_output", now, expires_at)
            db.execute("INSERT INTO files VALUES (?, ?, ?, ?, 0, ?, 1, ?)", row)
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
