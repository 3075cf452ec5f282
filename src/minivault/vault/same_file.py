"""Whether the vault's path still leads to the file that is open. Knows nothing of what is in it, nor of SQLite.

A file that is removed, moved away or replaced stays open, and takes records without a word: none of them would be there
at the next start. No descriptor is held here: closing one would let SQLite's locks on the file go.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from minivault.errors import LedgerUnavailable

GONE: Final = "the vault's file was removed or replaced: put it back, or stop the server and restore a backup"
LOG_GONE: Final = "the vault's write-ahead log was removed: restart the server"


class SameFile:
    """The file that a path led to when it was first looked at."""

    def __init__(self, path: Path, gone: str = GONE) -> None:
        """``gone``: what is said when the path leads to it no more."""
        self._path = path
        self._gone = gone
        self._known: tuple[int, int] | None = None

    def note(self) -> None:
        """The file is open: it is the one, if none is known yet.

        Raises:
            LedgerUnavailable: the path leads to none, or to another than before.
            OSError: the path cannot be looked at.
        """
        if self._known is None:
            self._known = self._found()
        self.require()

    def require(self) -> None:
        """That the path leads to it, where one is known.

        Raises:
            LedgerUnavailable, OSError: as :meth:`note`.
        """
        if self._known is not None and self._found() != self._known:
            raise LedgerUnavailable(self._gone)

    def _found(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise LedgerUnavailable(self._gone) from None
        return found.st_dev, found.st_ino
