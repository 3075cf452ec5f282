"""The lock file beside a vault: one writing process at a time. Knows nothing of what is written.

Whoever takes it finds the vault whole: a restore that a killed process left half done is finished first.
"""

from __future__ import annotations

import os
from pathlib import Path

from minivault.errors import LedgerUnavailable
from minivault.file_lock import lock
from minivault.files import PLAIN
from minivault.vault.moving import finish


class WriterLock:
    """The lock file beside the vault: one writing process at a time. Let go by the system when the process dies."""

    def __init__(self, vault: Path) -> None:
        """Take the lock, and put in place what a killed restore left beside the vault.

        Raises:
            LedgerUnavailable: another writer holds it.
            OSError, VaultCorrupt: the folder cannot be used, or what a killed restore left cannot be put in place.
        """
        self._fd = os.open(vault.with_name(vault.name + ".lock"), os.O_RDWR | os.O_CREAT | PLAIN, 0o600)
        try:
            lock(self._fd)
        except OSError:
            os.close(self._fd)
            raise LedgerUnavailable(
                "another MiniVault process writes this vault; stop it, or use another data directory"
            ) from None
        try:
            self.finished_restore = finish(vault)
            """Whether there was one."""
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the lock go. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._fd)
