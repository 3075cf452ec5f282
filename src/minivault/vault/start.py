"""What a ledger would refuse to start with, asked of what it asks itself, and without writing or making anything.

Knows nothing of why somebody asks, and not whether the disk takes a write.
"""

from __future__ import annotations

from pathlib import Path

from minivault.errors import VaultCorrupt
from minivault.vault.database import as_error, snapshot, stored_node, stored_tree
from minivault.vault.head import Head, HeadPaths
from minivault.vault.reader import Reader


def require_signing(vault: Path) -> Head | None:
    """That heads can be signed; the newest one, ``None`` if none was signed yet.

    Raises:
        VaultCorrupt: a key or the head is gone, cannot be trusted, or does not belong to the others.
        LedgerUnavailable: one of them cannot be read.
    """
    paths = HeadPaths(vault)
    try:
        newest = paths.load_head()
        paths.load_signer()
    except OSError as error:
        raise as_error(error, "the vault's keys cannot be read") from error
    return newest


def require_continued(reader: Reader, newest: Head | None) -> None:
    """That the vault's stored tree holds together, and goes on from a signed head that was read before it; a vault that
    is not there has no records.

    Raises:
        VaultCorrupt: it does not, or is no vault of this version.
        LedgerUnavailable: it cannot be read.
        ConfigError: there is a key, and the vault is not encrypted.
    """
    paths = HeadPaths(reader.path)
    with reader.connection() as db:
        if db is None:
            paths.require_unsigned(newest)
            return
        with snapshot(db):
            try:
                tree = stored_tree(db)
                paths.require_continued(newest, tree, lambda level, position: stored_node(db, level, position))
            except (TypeError, ValueError, OverflowError):
                raise VaultCorrupt("the vault's tree holds a value of another type; run vault verify") from None
