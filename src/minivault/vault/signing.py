"""When a head is signed: in its turn while records come in, at the end, and when somebody asks for one at once.

A head that cannot be signed, or exported, harms no record: it is told, and tried again later. Knows nothing of what a
head is for. Used by the ledger thread alone, but for :meth:`Signing.ask` and :meth:`Signing.answer`.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future

from minivault.errors import LedgerUnavailable, VaultCorrupt
from minivault.vault.book import Book
from minivault.vault.database import describe
from minivault.vault.head import HeadKeeper
from minivault.vault.head_export import HeadExport
from minivault.vault.record import format_time

RETRY_SECONDS = 1.0


class Signing:
    """Signs heads of a book in time."""

    def __init__(self, book: Book, heads: HeadKeeper | None, interval: float) -> None:
        """``heads``: ``None`` signs none. ``interval``: seconds."""
        self._book = book
        self._heads = heads
        self._interval = interval
        self._next = 0.0
        # Why the last head could not be signed.
        self._why_not: str | None = None
        # Why it is not where it is to be exported to, as of the last step.
        self._not_exported: str | None = None
        # Once the ledger runs: a vault that does not open leaves no thread.
        self._newest_offered = False
        # Filled by anyone, emptied by whoever answers.
        self._asked: deque[Future[int]] = deque()

    @property
    def asked(self) -> bool:
        """Whether somebody waits for a head."""
        return bool(self._asked)

    @property
    def error(self) -> str | None:
        """Why the last head could not be signed, or is not where it is to be exported to."""
        return self._why_not or self._not_exported

    @property
    def size(self) -> int:
        """Records that the newest head covers."""
        return 0 if self._heads is None or self._heads.newest is None else self._heads.newest.size

    @property
    def signed_at(self) -> str | None:
        """When it was signed: UTC, RFC 3339."""
        signed_ns = None if self._heads is None else self._heads.signed_ns
        return None if signed_ns is None else format_time(signed_ns)

    def ask(self) -> Future[int]:
        """Want a head at once; resolved by :meth:`answer`. Any thread.

        It cannot be cancelled: whoever answers it must never find it settled by another.
        """
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        self._asked.append(future)
        return future

    def answer(self, why_not: str | None) -> None:
        """Tell those who asked: how far the newest head reaches, or why there is none for them. Any thread."""
        if self._heads is None:
            why_not = "this vault signs no heads"
        while True:
            try:
                asked = self._asked.popleft()
            except IndexError:
                return
            if why_not is None:
                asked.set_result(self.size)
            else:
                asked.set_exception(LedgerUnavailable(f"no head could be signed: {why_not}", retry_after=RETRY_SECONDS))

    def wait(self) -> float | None:
        """Seconds until there is something to do or to tell; ``None``: there is nothing."""
        export = self._export
        if export is not None and not self._newest_offered:
            return 0.0
        watched = export is not None and (export.behind or export.error != self._not_exported)
        behind = RETRY_SECONDS if watched else None
        return min((wait for wait in (self._due(), behind) if wait is not None), default=None)

    def _due(self) -> float | None:
        """Seconds until the next head is due; ``None`` while there is nothing new to sign."""
        if self._heads is None or self._book.writer is None:
            return None
        if self._heads.newest is not None and self._heads.newest.size == self._book.tree.size:
            return None
        return max(0.0, self._next - time.monotonic())

    def step(self) -> None:
        """Sign if it is time, or somebody asked, and tell who asked."""
        self._offer_newest()
        if self._due() == 0 or self._asked:
            self._sign()
        self.answer(self._why_not)
        self._look_at_export()

    def finish(self) -> None:
        """The last head, over whatever none covers yet; it is exported if that can be done soon."""
        self._offer_newest()
        self._sign()
        if self._export is not None:
            self._export.close()
        self._look_at_export()

    @property
    def _export(self) -> HeadExport | None:
        return None if self._heads is None else self._heads.export

    def _offer_newest(self) -> None:
        if self._heads is not None and not self._newest_offered:
            self._heads.offer_newest()
        self._newest_offered = True

    def _look_at_export(self) -> None:
        self._not_exported = None if self._export is None else self._export.error

    def _sign(self) -> None:
        if self._due() is None or self._heads is None or self._book.writer is None or not self._book.tree.size:
            return
        self._next = time.monotonic() + self._interval
        try:
            self._heads.sign(self._book.tree, self._book.writer.node)
        except (OSError, VaultCorrupt) as error:
            self._why_not = error.message if isinstance(error, VaultCorrupt) else describe(error)
            self._next = time.monotonic() + max(RETRY_SECONDS, self._interval)
        else:
            self._why_not = None
