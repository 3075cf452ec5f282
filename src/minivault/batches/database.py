"""The SQLite file of files and batches: its schema, its key, and what its errors mean. Knows nothing of its queries."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from minivault.errors import ConfigError, LedgerUnavailable
from minivault.files import PLAIN
from minivault.vault.cipher import CIPHER, VaultKey, is_plain

Connection = apsw.Connection

_SCHEMA = """
CREATE TABLE files (
    id TEXT PRIMARY KEY, owner TEXT, filename TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, whole INTEGER NOT NULL, expires_at INTEGER
) STRICT;
CREATE TABLE pieces (
    file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (file_id, number)
) STRICT;
CREATE TABLE batches (
    id TEXT PRIMARY KEY, owner TEXT, address TEXT NOT NULL, endpoint TEXT NOT NULL, input_file_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, status TEXT NOT NULL, metadata TEXT, concurrency INTEGER, times TEXT NOT NULL,
    faults TEXT NOT NULL, output_file_id TEXT, error_file_id TEXT, total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, output_seconds INTEGER, usage TEXT
) STRICT;
CREATE TABLE lines (
    batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    custom_id TEXT NOT NULL, body TEXT NOT NULL, result TEXT, failed INTEGER, calls TEXT,
    PRIMARY KEY (batch_id, number), UNIQUE (batch_id, custom_id)
) STRICT;
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE erasures (
    batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 5;
"""
_VERSION = 5
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FROM_VERSION_1 = """
ALTER TABLE batches ADD COLUMN total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN completed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
UPDATE batches SET (total, completed, failed) = (
    SELECT count(*), count(*) FILTER (WHERE lines.failed = 0), count(*) FILTER (WHERE lines.failed = 1)
    FROM lines WHERE batch_id = batches.id
);
DELETE FROM lines WHERE batch_id IN (
    SELECT id FROM batches WHERE status IN ('failed', 'completed', 'expired', 'cancelled')
);
PRAGMA user_version = 2;
"""
"""Batches have counts of their own, and those that have ended have no lines."""
_FROM_VERSION_2 = """
ALTER TABLE files ADD COLUMN expires_at INTEGER;
ALTER TABLE batches ADD COLUMN output_seconds INTEGER;
ALTER TABLE batches ADD COLUMN usage TEXT;
ALTER TABLE lines ADD COLUMN calls TEXT;
CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
PRAGMA user_version = 3;
"""
"""Files expire, batches say what they used, a result may wait for its calls' records, and there are marks: how far
something that goes on for ever has come."""
_FROM_VERSION_3 = """
CREATE TABLE erasures (
    batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, number INTEGER NOT NULL,
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 4;
"""
"""Lines that were erased, and are not written over yet in the files of their batches."""
_FROM_VERSION_4 = """
DROP TABLE marks;
CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
PRAGMA user_version = 5;
"""
"""How far the vault's erasures were noted is in the vault's words; the number alone could be another record's after a
restore. All are noted once more."""


def open_database(path: Path, key: VaultKey | None) -> Connection:
    """Open or create the file at ``path``, for its owner alone; one that is plain is encrypted if there is a key.

    Raises:
        ConfigError: it is encrypted with another key, or is no such file.
        LedgerUnavailable: it cannot be read or written.
    """
    _create(path)
    with failures():
        # why a URI: a copy of it under another key is named so (recoded_copy)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        db = apsw.Connection(path.absolute().as_uri(), flags=flags)
    try:
        _unlock(db, path, key)
        with failures():
            _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _create(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, 0o600))
    except OSError as error:
        raise _not_kept("the disk is full" if error.errno in _FULL else "their folder cannot be written") from None


def recoded_copy(path: Path, part: Path, old: VaultKey | None, new: VaultKey | None) -> bool:
    """Write a copy of the file to ``part``, with the key ``new`` in the place of ``old``, ``None`` being none, and sync
    it. False where there is nothing to copy: the file is not there, or has the key ``new`` already. Nobody else may
    have the file open; no log is left beside it.

    Raises:
        ConfigError: it opens with neither.
        LedgerUnavailable: it cannot be read or written, or another process has it open.
    """
    if not path.exists():
        return False
    encrypted = is_plain(path) is False
    if not encrypted and new is None:
        return False
    try:
        db = open_database(path, old if encrypted else None)
    except ConfigError:
        if new is None or not encrypted:
            raise
        open_database(path, new).close()
        return False
    with contextlib.closing(db), failures():
        db.pragma("journal_mode", "delete")  # its log would be taken for the copy's
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, 0o600))
        ending = "key=" if new is None else f"cipher={CIPHER}&key={new.passphrase}"
        db.execute("VACUUM INTO ?", (f"{part.absolute().as_uri()}?{ending}",))
    _sync(part)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | PLAIN)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def empty_log(db: Connection) -> None:
    """Bring the write-ahead log into the file, and cut it off; not while another program reads the file."""
    with contextlib.suppress(apsw.BusyError):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """What SQLite cannot do in the block, as LedgerUnavailable."""
    try:
        yield
    except apsw.Error as error:
        said = "the disk is full" if isinstance(error, apsw.FullError) else "its file cannot be read or written"
        raise _not_kept(said) from None


def _not_kept(reason: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"Files and batches cannot be kept: {reason}", retry_after=5)


def _unlock(db: Connection, path: Path, key: VaultKey | None) -> None:
    plain = is_plain(path)
    try:
        if key is not None:
            db.pragma("cipher", CIPHER)
            if plain:
                db.pragma("journal_mode", "delete")  # a file cannot be encrypted beside a write-ahead log
                db.pragma("rekey", key.passphrase)
            else:
                db.pragma("key", key.passphrase)
        version = db.pragma("user_version")
    except (apsw.NotADBError, apsw.CorruptError):
        raise ConfigError(
            f"{path.name} does not open with the vault's key: it is encrypted with another, or damaged. "
            "Move it away to go on without the files and batches in it."
        ) from None
    if version > _VERSION:
        raise ConfigError(f"{path.name} was written by a newer MiniVault")


def _prepare(db: Connection) -> None:
    db.set_busy_timeout(5_000)
    for name, value in (
        ("trusted_schema", False),
        ("journal_mode", "wal"),
        ("synchronous", "FULL"),
        ("fullfsync", True),
        ("foreign_keys", True),
        ("secure_delete", True),  # what is deleted is overwritten, not merely given up
    ):
        db.pragma(name, value)
    steps = {0: _SCHEMA, 1: _FROM_VERSION_1, 2: _FROM_VERSION_2, 3: _FROM_VERSION_3, 4: _FROM_VERSION_4}
    while (step := steps.get(db.pragma("user_version"))) is not None:
        with db:
            db.execute(step)
    with db:
        db.execute("DELETE FROM files WHERE NOT whole")
    empty_log(db)
