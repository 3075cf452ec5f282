"""Which schema a vault's file has, and how it is brought up to date. Knows nothing of what the tables hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from minivault.errors import VaultCorrupt
from minivault.vault.migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from minivault.vault.database import Connection

TABLES: Final = "SELECT count(*) FROM sqlite_schema"


def is_empty(db: Connection) -> bool:
    """Whether the file has no schema yet: created, but nothing was ever recorded."""
    return int(db.pragma("user_version")) == 0


def migrate(db: Connection, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """Run the migrations that are due, each in one transaction with its version; returns how many ran.

    Raises:
        VaultCorrupt: the file is something else, or newer than this program.
    """
    version = schema_version(db, len(migrations))
    for number in range(version + 1, len(migrations) + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(migrations[number - 1])
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return len(migrations) - version


def schema_version(db: Connection, known: int) -> int:
    """The schema version; 0 for a file that nothing was written to."""
    version = int(db.pragma("user_version"))
    ours = db.pragma("application_id") == APPLICATION_ID if version else not db.execute(TABLES).get
    if not ours:
        raise VaultCorrupt("the file is a database, but not a vault")
    if version > known:
        raise VaultCorrupt(f"the vault has schema {version}, made by a newer MiniVault; this one knows {known}")
    return version
