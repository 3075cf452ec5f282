"""The open database of files and batches, behind one lock. Knows nothing of what is in it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from minivault.batches.database import Connection, empty_log, failures, open_database
from minivault.errors import LedgerUnavailable, UnknownRecord
from minivault.vault.cipher import VaultKey


class Shelf:
    """One process at a time has it: that which has the vault. Blocking, and safe to call from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, key_file: Path | None = None) -> Self:
        """Open or create the file at ``path``; one that is plain is encrypted if there is a key.

        Raises:
            ConfigError: it is encrypted with another key, or is no such file.
            LedgerUnavailable: it cannot be read or written.
        """
        return cls(open_database(path, VaultKey.of(key_file)))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _forget(self) -> None:
        """Empty the write-ahead log, where what was deleted still stands. If the disk does not let it, the next one
        does, or the next start."""
        with contextlib.suppress(LedgerUnavailable), self._reading() as db:
            empty_log(db)

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


def place_of(db: Connection, table: str, after: str | None, owner: str | None) -> int | None:
    """Where a page goes on.

    Raises:
        UnknownRecord: there is nothing of this id, or it is not ``owner``'s.
    """
    if after is None:
        return None
    sql = f"SELECT rowid FROM {table} WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)"  # noqa: S608 - constants
    found: int | None = db.execute(sql, (after, owner)).get
    if found is None:
        raise UnknownRecord("after: there is nothing of this id to go on from", param="after")
    return found
