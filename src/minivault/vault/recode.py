"""Encrypts a vault, gives it another key, or takes the encryption away: written anew beside itself, verified, renamed.

Knows nothing of where keys are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minivault.errors import InvalidRequest
from minivault.vault.backup import take_place, verified
from minivault.vault.cipher import VaultKey
from minivault.vault.copying import recode_database
from minivault.vault.database import StorageError, Writer, as_error
from minivault.vault.findings import VerifyReport
from minivault.vault.head import HeadPaths
from minivault.vault.lock import WriterLock
from minivault.vault.moving import RECODED, discard, require_settled
from minivault.vault.verify import Progress

Beside = Callable[[VaultKey | None, VaultKey | None], None]


def recode(
    vault: Path,
    old: VaultKey | None,
    new: VaultKey | None,
    *,
    progress: Progress | None = None,
    beside: Beside | None = None,
) -> VerifyReport:
    """Give the vault the key ``new`` in the place of ``old``; ``None`` is no encryption. No server may be running.

    ``beside``: does the same to what lies beside the vault, once it is written anew and verified, before it is put in
    place. It must bear to be called again, and the other way round.

    Its records, and so its heads and proofs, stay what they are. The file that it was is deleted at the end; a crash
    leaves the one or the other, whole.

    Raises:
        InvalidRequest: there is no vault.
        ConfigError, VaultCorrupt: ``old`` is not its key, or it does not verify.
        LedgerUnavailable: another process writes it, or it could not be read or written.
    """
    require_settled(vault)
    if not vault.is_file():
        raise InvalidRequest("there is no vault to encrypt", param="vault")
    lock, part = WriterLock(vault), vault.with_name(vault.name + RECODED)
    try:
        head = HeadPaths(vault).load_head()
        discard(part)
        try:
            _settle(vault, old)
            recode_database(vault, part, old, new)
        except (StorageError, OSError) as error:
            raise as_error(error, "the vault could not be written anew") from error
        report = verified(part, head, new, progress)
        # An old write-ahead log beside a new file would be taken for its own. It is empty since it was settled.
        for end in ("-wal", "-shm"):
            vault.with_name(vault.name + end).unlink(missing_ok=True)
        if beside is not None:
            beside(old, new)
        try:
            take_place(part, vault)
        except BaseException:
            if beside is not None:
                beside(new, old)
            raise
        return report
    finally:
        discard(part)
        lock.release()


def _settle(vault: Path, key: VaultKey | None) -> None:
    """All that is in the write-ahead log goes into the file."""
    writer = Writer.open(vault, key=key)
    try:
        writer.reset_wal()
    finally:
        writer.close()
