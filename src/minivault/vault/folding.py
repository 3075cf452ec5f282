"""When the write-ahead log is moved into the vault's file, and how long readers are waited for.

Knows nothing of records.
"""

from __future__ import annotations

from minivault.vault.database import Writer

FOLD_PAGES = 1000
RESTART_PAGES = 4000
"""From here on readers are waited for, so that the log can begin anew: a little, once for each 1000 pages."""
MOST_PAGES = 12_000
"""From here on for longer: 48 MiB."""
PATIENCE_MS = 100
LAST_PATIENCE_MS = 2000
"""Records wait as long; less where that is much of the time in which a record must be durable."""


class Folding:
    """Owner: the ledger's thread.

    Readers that overlap all the time leave no moment in which the log is not needed, and it would grow for as long.
    """

    def __init__(self, patience: float) -> None:
        """``patience``: seconds that a turn may wait for readers at most."""
        self._most_ms = min(LAST_PATIENCE_MS, round(1000 * patience))
        self._waited_at = 0

    def step(self, writer: Writer) -> None:
        """After a turn's commits. Raises what the disk does."""
        pages = writer.wal_pages
        self._waited_at = min(self._waited_at, pages)  # the log began anew
        if pages < FOLD_PAGES:
            return
        if pages < RESTART_PAGES or pages - self._waited_at < FOLD_PAGES:
            writer.fold_wal()
        else:
            self._waited_at = pages
            writer.restart_wal(min(PATIENCE_MS, self._most_ms) if pages < MOST_PAGES else self._most_ms)
