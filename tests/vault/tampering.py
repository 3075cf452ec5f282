"""What somebody with a SQL client does to a vault, and what verify says of it then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import apsw

from minivault.vault.cipher import CIPHER, VaultKey
from minivault.vault.findings import Fault, VerifyReport
from minivault.vault.head import Head
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.vault.samples import open_ledger, record_calls


def closed_vault(folder: Path, calls: int) -> Path:
    """So many whole calls; intents have even indexes, the outcome of each is the next record."""
    ledger = open_ledger(folder)
    record_calls(ledger, calls)
    ledger.close()
    return folder / "vault.db"


def change(path: Path, sql: str, values: Mapping[str, int] | None = None, *, key: VaultKey | None = None) -> None:
    """Run ``sql`` with no constraint in the way."""
    db = apsw.Connection(str(path))
    if key is not None:
        db.pragma("cipher", CIPHER)
        db.pragma("key", key.passphrase)
    db.pragma("ignore_check_constraints", True)
    db.pragma("foreign_keys", False)
    db.pragma("synchronous", "OFF")
    db.execute(sql, values or {})
    db.close()


def check(
    path: Path, *, contents: bool = True, against: Head | None = None, key: VaultKey | None = None
) -> VerifyReport:
    """Of a vault's file, or of the vault in a folder."""
    reader = Reader.open(path / "vault.db" if path.is_dir() else path, key)
    try:
        return verify(reader, contents=contents, against=against)
    finally:
        reader.close()


def faults(report: VerifyReport) -> set[tuple[Fault, int | None]]:
    return {(finding.fault, finding.index) for finding in report.findings}
