"""SQLite behind one door: opening, schema version, durability settings, the one transaction that writes records.

The only module that imports apsw. What it promises: a :class:`Writer` exists only with WAL, ``synchronous=FULL`` and
foreign keys *read back*, and only while this process holds the lock file; :meth:`Writer.commit` returns only after
the fsync. Knows nothing of threads, futures, retries or the meaning of what it stores.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import apsw

from minivault.errors import ConfigError, LedgerUnavailable, VaultCorrupt
from minivault.files import OPEN_FILES_STAY, PLAIN
from minivault.vault.batch import Batch, OpenCall
from minivault.vault.cipher import CIPHER, START_BYTES, VaultKey, is_plain, starts_plain
from minivault.vault.copies import copies_of
from minivault.vault.merkle import Tree
from minivault.vault.migrations import MIGRATIONS
from minivault.vault.schema import TABLES, migrate, schema_version
from minivault.vault.transaction import COMMIT, PREPARE, packed

Connection = apsw.Connection
StorageError = apsw.Error
"""Whatever SQLite reports; :func:`describe` puts it into words."""

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 16_384
READER_CACHE_KIB = 1_024
"""Of each connection that reads. The system keeps the file's pages in memory better, and can take them back: a larger
cache made no list or search of a million records meet an aim that it else missed."""
WAL_KEEP_BYTES = 16 << 20
_NORMAL_STATES = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


class Writer:
    """The one writable connection. Used by one thread at a time (the ledger thread, once the ledger is open)."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self.wal_pages = 0
        """Pages in the write-ahead log as of the last commit."""
        connection.set_wal_hook(self._note_wal)

    def _note_wal(self, _db: Connection, _schema: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    @classmethod
    def open(cls, path: Path, *, key: VaultKey | None = None, vfs: str = "") -> Writer:
        """Open or create the vault at ``path``, migrate it, set durability and read it back. With a ``key`` the file
        is encrypted.

        Raises:
            StorageError: SQLite could not.
            ConfigError: there is a key, and the vault is not encrypted.
            LedgerUnavailable: the file system cannot give what was set (no WAL on a network share, say).
            VaultCorrupt: not a vault, or of a newer version.
        """
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, 0o600))
        db = Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs or None)
        try:
            unlock(db, path, key)
            _prepare(db)
            migrate(db)
            db.execute(PREPARE)
            return cls(db)
        except BaseException:
            db.close()
            raise

    def load_tree(self) -> Tree:
        """The tree as stored, checked in O(log size): its size against the leaves, its root against its peaks.

        Raises:
            VaultCorrupt: they do not agree.
        """
        return stored_tree(self._db)

    def node(self, level: int, position: int) -> bytes:
        """A stored complete subtree's hash (a ``NodeSource``)."""
        return stored_node(self._db, level, position)

    def open_calls(self) -> Iterator[OpenCall]:
        """Intents without an outcome, oldest first; found by a partial index, without a scan."""
        rows = self._db.execute(
            "SELECT intent_index, request_id, store, prompt_tokens FROM calls"
            " WHERE outcome_index IS NULL ORDER BY intent_index"
        )
        for index, request_id, store, prompt_tokens in rows:
            yield OpenCall(index, request_id, bool(store), prompt_tokens)

    def commit(self, batch: Batch, tree: Tree) -> None:
        """Write ``batch`` and the head of ``tree`` in one transaction. Returning means: synced to the disk."""
        self._db.execute(COMMIT, packed(batch, tree))

    def erasable(self, intents: Iterable[int]) -> tuple[int, ...]:
        """Those of these calls that have ended and whose content is there, in order."""
        found = (self._db.execute(f"{_ERASABLE} AND intent_index = ?", (intent,)).get for intent in {*intents})
        return tuple(sorted(index for index in found if index is not None))

    def copies(self, intents: Iterable[int]) -> tuple[tuple[int, ...], bool]:
        """As ``copies.copies_of``."""
        return copies_of(self._db, intents)

    def is_erased(self, record: int) -> bool:
        """Whether the content of the call with this record is erased."""
        sql = "SELECT 1 FROM calls WHERE (intent_index = ?1 OR outcome_index = ?1) AND erased_index IS NOT NULL"
        return self._db.execute(sql, (record,)).get is not None

    def erasable_before(self, time_ns: int, limit: int) -> tuple[int, ...]:
        """The oldest calls of before ``time_ns`` whose content is there, found by an index."""
        sql = f"{_ERASABLE} AND time_ns < ? ORDER BY time_ns LIMIT ?"
        return tuple(index for (index,) in self._db.execute(sql, (time_ns, limit)))

    def newest_erasure(self) -> int:
        """Index of the newest record by which content of a call went; -1 if there is none."""
        found = self._db.execute("SELECT max(erased_index) FROM calls WHERE erased_index IS NOT NULL").get
        return -1 if found is None else int(found)

    @property
    def scrubbed(self) -> int:
        """The erasure up to which the mirror has let its lines go."""
        found = self._db.execute("SELECT value FROM counters WHERE name = 'mirror_scrubbed'").get
        return -1 if found is None else int(found)

    @scrubbed.setter
    def scrubbed(self, index: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO counters VALUES ('mirror_scrubbed', ?)", (index,))

    def probe(self) -> None:
        """Write and sync something small, to learn whether writing works again."""
        # Of a row that somebody deleted, an update would write nothing.
        self._db.execute(_PROBE)

    def fold_wal(self) -> None:
        """Move what the write-ahead log holds into the file, as far as readers allow."""
        # Another program may be at it already.
        with contextlib.suppress(apsw.BusyError):
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def restart_wal(self, patience_ms: int) -> None:
        """As :meth:`fold_wal`, so that the next commit begins the log anew; waits as long for readers that are at it.

        Where readers overlap there is always one that needs the log, and it would grow for as long as they do.
        """
        self._db.set_busy_timeout(patience_ms)
        try:
            with contextlib.suppress(apsw.BusyError):
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)

    def reset_wal(self) -> None:
        """Move everything into the file, sync it and empty the write-ahead log.

        After a failed fsync this comes before anything else: the kernel may have dropped pages of the log that it
        reports as clean, and whatever was appended behind them would be lost with them.

        Raises:
            StorageError: it could not be done, be it that readers hold the log for longer than the busy timeout.
        """
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def wipe_wal(self) -> bool:
        """As :meth:`reset_wal`, but without waiting for readers: false if one is in the way. What was erased is then
        in the file no more, and in the log no more.
        """
        self._db.set_busy_timeout(0)
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        finally:
            self._db.set_busy_timeout(BUSY_TIMEOUT_MS)
        return True

    @property
    def connection(self) -> Connection:
        """For queries on the writer's own thread (the mirror reads what was just committed)."""
        return self._db

    @property
    def log_path(self) -> Path:
        """Of the write-ahead log, beside the file that a symbolic link leads to."""
        return Path(self._db.filename_wal)

    def close(self) -> None:
        self._db.close()


def unlock(db: Connection, path: Path, key: VaultKey | None) -> None:
    """Give the connection its key, and see that it fits. Comes before anything is read."""
    plain = _is_plain(db, path)
    if key is None:
        if plain is False:
            raise VaultCorrupt(
                "the vault's file is encrypted, and vault_key_file names no key; or its first bytes are damaged"
            )
        return
    if plain:
        raise ConfigError(
            "vault_key_file names a key, but the vault is not encrypted: run minivault vault encrypt, or leave it out"
        )
    if not hasattr(apsw, "mc_version"):
        # A SQLite without ciphers takes the key without a word, and writes in plain.
        raise ConfigError("vault_key_file names a key, but this SQLite cannot encrypt: install apsw-sqlite3mc alone")
    db.pragma("cipher", CIPHER)
    db.pragma("key", key.passphrase)
    if plain is None:
        return
    try:
        db.execute(TABLES).fetchall()
    except (apsw.NotADBError, apsw.CorruptError):
        raise VaultCorrupt(
            "the key in vault_key_file does not open the vault: it is another vault's, or the file is damaged"
        ) from None


def _is_plain(db: Connection, path: Path) -> bool | None:
    """As ``cipher.is_plain``, of a file that this process may have open: read through SQLite, which closes it only when
    no connection has a lock on it.

    POSIX lets go of a process's locks on a file whenever it closes any descriptor of it. Another program that closed
    the vault would then take itself for the last one, and delete the write-ahead log under the writer.
    """
    if OPEN_FILES_STAY:  # there, each descriptor has locks of its own
        return is_plain(path)
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0]
    file = apsw.VFSFile("unix", db.filename, flags)  # which follows no symbolic link; this name has none
    try:
        return starts_plain(file.xRead(START_BYTES, 0))
    finally:
        file.xClose()


def open_reader(path: Path, key: VaultKey | None = None) -> Connection:
    """A read-only connection.

    Raises:
        StorageError, OSError: the file is missing or could not be opened.
        ConfigError: there is a key, and the vault is not encrypted.
        VaultCorrupt: not a vault, or of another version than this program's.
    """
    db = Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        unlock(db, path, key)
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        db.pragma("trusted_schema", False)
        db.pragma("cache_size", -READER_CACHE_KIB)
        version = schema_version(db, len(MIGRATIONS))
        if 0 < version < len(MIGRATIONS):
            raise VaultCorrupt(
                f"the vault has the older schema {version}; start the server once to bring it up to date"
            )
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def snapshot(db: Connection) -> Iterator[None]:
    """One state of the file for all reads of the block: an erasure takes content and changes the list together."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def open_scratch() -> Connection:
    """An empty database in memory: nothing that is put into it reaches a disk."""
    db = Connection(":memory:")
    db.pragma("temp_store", "memory")
    return db


def open_still(path: Path, key: VaultKey | None) -> Connection:
    """A read-only connection to a vault that nobody writes; it may name the file that it copies to as a URI.

    Raises:
        StorageError, OSError, VaultCorrupt, ConfigError: as :func:`open_reader`.
    """
    open_reader(path, key).close()
    db = Connection(path.absolute().as_uri(), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        unlock(db, path, key)
    except BaseException:
        db.close()
        raise
    return db


def open_foreign(path: Path) -> Connection:
    """A read-only connection to a database of another program; nothing in its schema is trusted.

    Raises:
        StorageError: the file is missing, or is no database.
    """
    db = Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        db.pragma("trusted_schema", False)
        db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def stored_tree(db: Connection) -> Tree:
    """As :meth:`Writer.load_tree`."""
    size, root = next(db.execute("SELECT size, root FROM tree_state"), (0, b""))
    last = db.execute("SELECT max(leaf_index) FROM leaves").get
    if size != (0 if last is None else last + 1):
        raise VaultCorrupt(f"the vault's head counts {size} records, but the last record is {last}; run vault verify")
    tree = Tree.load(size, lambda level, position: stored_node(db, level, position))
    if tree.root() != root:
        raise VaultCorrupt("the vault's tree does not lead to its head; run vault verify")
    return tree


def stored_node(db: Connection, level: int, position: int) -> bytes:
    """The hash of a complete subtree; level 0 is a leaf.

    Raises:
        VaultCorrupt: it is not there.
    """
    if level:
        row = db.execute("SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)).get
    else:
        row = db.execute("SELECT hash FROM leaves WHERE leaf_index = ?", (position,)).get
    if row is None:
        raise VaultCorrupt(f"the vault's tree lacks its node {level}/{position}; run vault verify")
    return bytes(row)


def describe(error: BaseException) -> str:
    """What went wrong with the storage, in words that are safe to show."""
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return "the disk is full"
    if isinstance(error, apsw.BusyError):
        return "another program holds the vault's file locked"
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return "the vault's file is damaged"
    if isinstance(error, apsw.ReadOnlyError):
        return "the vault's file is read-only"
    if isinstance(error, apsw.CantOpenError):
        return "the vault's file cannot be opened"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "it may not be written"
    if isinstance(error, (apsw.IOError, OSError)):
        return "the disk reported an I/O error"
    return f"the vault's storage failed ({type(error).__name__})"


def as_error(error: StorageError | OSError, what: str) -> LedgerUnavailable | VaultCorrupt:
    """The error of ours for one of the storage: damage is corruption, anything else may pass."""
    damaged = isinstance(error, (apsw.CorruptError, apsw.NotADBError))
    return (VaultCorrupt if damaged else LedgerUnavailable)(f"{what}: {describe(error)}")


def _prepare(db: Connection) -> None:
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    # A close after a failed fsync must not write; the ledger folds the log in by itself, after the receipts are out.
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.pragma("trusted_schema", False)
    db.pragma("cell_size_check", True)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "FULL")
    db.pragma("fullfsync", True)
    db.pragma("checkpoint_fullfsync", True)
    db.pragma("foreign_keys", True)
    db.pragma("wal_autocheckpoint", 0)
    db.pragma("journal_size_limit", WAL_KEEP_BYTES)
    # What is erased is overwritten with zeros, not merely given up.
    db.pragma("secure_delete", True)
    db.pragma("cache_size", -CACHE_KIB)
    db.pragma("temp_store", "memory")
    for name, wanted in _NORMAL_STATES.items():
        found = db.pragma(name)
        if found != wanted:
            raise LedgerUnavailable(f"this file system does not give the vault {name}={wanted}; it reports {found}")


_PROBE = """
INSERT INTO counters VALUES ('probe', 1) ON CONFLICT DO UPDATE SET value = value % 1000000000 + 1
"""
_ERASABLE = "SELECT intent_index FROM calls WHERE store = 1 AND outcome_index IS NOT NULL AND erased_index IS NULL"
