"""Encrypts a vault, gives it another key, or takes the encryption away: written anew beside itself, verified, renamed.

Knows nothing of where keys are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minivault.errors import InvalidRequest
from minivault.vault.backup import verified
from minivault.vault.cipher import VaultKey
from minivault.vault.copying import recode_database
from minivault.vault.database import StorageError, Writer, as_error
from minivault.vault.findings import VerifyReport
from minivault.vault.head import HeadPaths
from minivault.vault.lock import WriterLock
from minivault.vault.moving import RECODED, REPLACED, Move, discard_all, list_of, move_all
from minivault.vault.verify import Progress


@dataclass(frozen=True, slots=True)
class Beside:
    """A file in the vault's folder that bears the vault's key too."""

    path: Path
    copy: Callable[[Path, VaultKey | None, VaultKey | None], bool]
    """Writes a copy of it to a new file, synced, from the one key to the other; false if it is not there, or bears that
    key already. Leaves no write-ahead log beside the file."""


def recode(
    vault: Path,
    old: VaultKey | None,
    new: VaultKey | None,
    *,
    progress: Progress | None = None,
    beside: Beside | None = None,
) -> VerifyReport:
    """Give the vault the key ``new`` in the place of ``old``; ``None`` is no encryption. No server may be running.

    Its records, and so its heads and proofs, stay what they are. The file that it was is deleted at the end; a crash
    leaves the one or the other, whole, and what lies ``beside`` it with the same key: else a list by which the next
    holder of the vault's lock puts both in place, and until then nobody reads either.

    Raises:
        InvalidRequest: there is no vault.
        ConfigError, VaultCorrupt: ``old`` is not its key, or it does not verify.
        LedgerUnavailable: another process writes it, or it could not be read or written.
    """
    if not vault.is_file():
        raise InvalidRequest("there is no vault to encrypt", param="vault")
    part = vault.with_name(vault.name + RECODED)
    try:
        lock = WriterLock(vault)
    except OSError as error:
        raise as_error(error, "the vault's folder cannot be used") from error
    try:
        head = HeadPaths(vault).load_head()
        try:
            _settle(vault, old)
            recode_database(vault, part, old, new)
        except (StorageError, OSError) as error:
            raise as_error(error, "the vault could not be written anew") from error
        report = verified(part, head, new, progress)
        # An old write-ahead log beside a new file would be taken for its own. It is empty since it was settled.
        for end in ("-wal", "-shm"):
            vault.with_name(vault.name + end).unlink(missing_ok=True)
        try:
            move_all(vault, [*_moves_of(beside, old, new), (part, vault)])
        except OSError as error:
            raise as_error(error, "the vault that was written anew could not be put in place") from error
        return report
    finally:
        if not list_of(vault).exists():
            discard_all(vault)
        lock.release()


def _moves_of(beside: Beside | None, old: VaultKey | None, new: VaultKey | None) -> list[Move]:
    if beside is None:
        return []
    path = beside.path
    part = path.with_name(path.name + RECODED)
    return [(path, path.with_name(path.name + REPLACED)), (part, path)] if beside.copy(part, old, new) else []


def _settle(vault: Path, key: VaultKey | None) -> None:
    """All that is in the write-ahead log goes into the file."""
    writer = Writer.open(vault, key=key)
    try:
        writer.reset_wal()
    finally:
        writer.close()
