"""The vault's ledger in this process, for the length of a command that writes without a server.

Knows nothing of what is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from minivault.cli.console import CliError

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.ledger import Ledger


def is_written(settings: Settings) -> bool:
    """Whether another process, a server most likely, writes this vault just now.

    Raises:
        LedgerUnavailable: the vault's folder may not be written.
    """
    from minivault.errors import LedgerUnavailable
    from minivault.vault.database import as_error
    from minivault.vault.lock import WriterLock

    try:
        settings.vault_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        WriterLock(settings.vault_path).release()
    except LedgerUnavailable:
        return True
    except OSError as error:
        raise as_error(error, "the vault's folder cannot be used") from error
    return False


@contextmanager
def own_ledger(settings: Settings, otherwise: str) -> Iterator[Ledger]:
    """The ledger of a vault that no other process writes. At its end the mirror is level with the vault.

    Raises:
        CliError: a server writes this vault; ``otherwise`` says what to do then.
    """
    from minivault.vault.cipher import VaultKey
    from minivault.vault.ledger import Ledger

    if is_written(settings):
        raise CliError(f"A server writes this vault. {otherwise}")
    ledger = Ledger.open(
        settings.vault_path,
        key=VaultKey.of(settings.vault_key_file),
        mirror_dir=settings.mirror_dir,
        mirror_max_bytes=settings.mirror_max_bytes,
        receipt_deadline=settings.receipt_deadline,
        head_interval=settings.head_interval,
        head_export=settings.head_export,
    )
    try:
        yield ledger
    finally:
        ledger.close()
