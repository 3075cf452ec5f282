"""Copies of a vault's file: of one state while it is written, and under another key. Knows nothing of what is in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from minivault.files import PLAIN
from minivault.vault.cipher import CIPHER, VaultKey
from minivault.vault.database import Connection, open_reader, open_still, unlock

COPY_PAGES = 1024


def copy_database(
    source: Path, target: Path, key: VaultKey | None = None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Copy one state of a vault through SQLite's online backup, while another process may go on writing it.

    ``target`` is made, for its owner alone, and synced; it needs no other file beside it, and is encrypted with the
    vault's key if that is. ``progress``: pages done, and pages in all.

    Raises:
        StorageError, OSError: it could not be read or written.
        VaultCorrupt: the source is no vault, or of another version.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, 0o600))
    with contextlib.closing(open_reader(source, key)) as old, contextlib.closing(Connection(str(target))) as new:
        unlock(new, target, key)
        new.pragma("synchronous", "FULL")
        # A read transaction holds the state still: without one the copy would begin anew at every commit.
        old.execute("BEGIN; SELECT count(*) FROM sqlite_schema").fetchall()
        with new.backup("main", old, "main") as backup:
            while not backup.done:
                backup.step(COPY_PAGES)
                if progress is not None:
                    progress(backup.page_count - backup.remaining, backup.page_count)
        new.pragma("journal_mode", "delete")


def recode_database(source: Path, target: Path, old: VaultKey | None, new: VaultKey | None) -> None:
    """Copy a vault that nobody writes to ``target``, encrypted with the key ``new`` (``None``: plain), and sync it.

    Raises:
        StorageError, OSError: it could not be read or written.
        VaultCorrupt, ConfigError: the source is no vault, or ``old`` is not its key.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, 0o600))
    with contextlib.closing(open_still(source, old)) as db:
        ending = "key=" if new is None else f"cipher={CIPHER}&key={new.passphrase}"
        db.execute("VACUUM INTO ?", (f"{target.absolute().as_uri()}?{ending}",))
    fd = os.open(target, os.O_RDWR | PLAIN)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
