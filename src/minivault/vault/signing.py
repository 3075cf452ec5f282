"""When a head is signed: in its turn while records come in, at the end, and when somebody asks for one at once.

A head that cannot be signed harms no record: it is told, and tried again later. Knows nothing of what a head is for.
Used by the ledger thread alone, but for :meth:`Signing.ask` and :meth:`Signing.answer`.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future

from minivault.errors import LedgerUnavailable, VaultCorrupt
from minivault.vault.book import Book
from minivault.vault.database import describe
from minivault.vault.head import HeadKeeper
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
        self.error: str | None = None
        """Why the last head could not be signed."""
        # Filled by anyone, emptied by whoever answers.
        self._asked: deque[Future[int]] = deque()

    @property
    def asked(self) -> bool:
        """Whether somebody waits for a head."""
        return bool(self._asked)

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
        """Seconds until the next head is due; ``None`` while there is nothing new to sign."""
        if self._heads is None or self._book.writer is None:
            return None
        if self._heads.newest is not None and self._heads.newest.size == self._book.tree.size:
            return None
        return max(0.0, self._next - time.monotonic())

    def step(self) -> None:
        """Sign if it is time, or somebody asked, and tell who asked."""
        if self.wait() == 0 or self._asked:
            self.finish()
        self.answer(self.error)

    def finish(self) -> None:
        """Sign whatever no head covers yet."""
        if self.wait() is None or self._heads is None or self._book.writer is None or not self._book.tree.size:
            return
        self._next = time.monotonic() + self._interval
        try:
            self._heads.sign(self._book.tree, self._book.writer.node)
        except (OSError, VaultCorrupt) as error:
            self.error = error.message if isinstance(error, VaultCorrupt) else describe(error)
            self._next = time.monotonic() + max(RETRY_SECONDS, self._interval)
        else:
            self.error = None
