"""What erasing asks of the ledger thread besides the record: retention, the mirror's lines, the search index's keys,
the write-ahead log.

Each step is short, so that records never wait for more than one batch; what a crash leaves undone is found again at the
next start. Knows nothing of callers. Used by the ledger thread alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from minivault.vault.book import MAX_ERASED, Book, Draft
from minivault.vault.copies import CopyRound
from minivault.vault.mirror import Mirror
from minivault.vault.record import NANOSECONDS, Clock, Erasure
from minivault.vault.search_scrub import KeyRounds, keys_scrubbed

DAY_NS = 86_400 * NANOSECONDS
RETENTION_SECONDS = 60.0
"""Between two looks for content that has become too old, once all that was due is gone."""
RETRY_SECONDS = 1.0
"""Between two attempts, and at least between two times that the log is emptied."""
FINISH_SECONDS = 5.0


class ErasureChores:
    """What is left to do after erasures, and content whose time has come."""

    def __init__(
        self,
        book: Book,
        mirror: Mirror | None,
        *,
        retention_days: float,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``retention_days``: 0 keeps content for ever."""
        self._book = book
        self._mirror = mirror
        self._retention_ns = int(retention_days * DAY_NS)
        self._clock = clock
        self._monotonic = monotonic
        self._next_look = 0.0
        self._log_due = False
        """The write-ahead log may hold copies of what was erased."""
        self._next_log = 0.0
        self._erased = self._covers = -1
        """The newest erasure, and the newest when the mirror was begun to be gone through."""
        self._mirror_due = False
        self._next_scrub = 0.0
        self._keys: KeyRounds | None = None
        """Under way: the search index's keys are gone through."""
        self._copies: CopyRound | None = None
        """Under way: replays and repeats are gone through."""
        self._next_copies = 0.0
        self.resume()

    def resume(self) -> None:
        """After the book was opened: is the mirror behind the erasures? The write-ahead log is empty then."""
        self._log_due, self._keys, self._copies = False, None, None
        self._book.copies_left = True
        if self._mirror is not None:
            self._mirror.begin_scrub()
        self._look_at_keys()
        self._look_at_mirror()

    def erased(self) -> None:
        """Content was erased just now."""
        self._log_due = True
        self._look_at_keys()
        self._look_at_mirror()

    def wait(self) -> float | None:
        """Seconds until the next step is due; ``None``: nothing to do."""
        due = [
            self._next_look if self._retention_ns else None,
            0.0 if self._keys is not None else None,
            self._next_log if self._log_due else None,
            self._next_scrub if self._mirror_due else None,
            self._next_copies if self._copies_due else None,
        ]
        earliest = min((moment for moment in due if moment is not None), default=None)
        return None if earliest is None else max(0.0, earliest - self._monotonic())

    def step(self) -> None:
        """Whatever is due now, a little of it. Failures take the book down, as those of any other write."""
        now = self._monotonic()
        if self._retention_ns and now >= self._next_look:
            self._next_look = now + (0.0 if self._erase_old() else RETENTION_SECONDS)
        if self._copies_due and now >= self._next_copies:
            self._erase_copies(now)
        if self._mirror_due and now >= self._next_scrub:
            self._scrub()
        if self._keys is not None:
            self._scrub_keys()
        if self._log_due and now >= self._next_log:
            # Readers may be in the way.
            self._log_due = not self._book.wipe()
            self._next_log = now + RETRY_SECONDS

    def finish(self) -> None:
        """Before the vault is let go, for five seconds at most: replays and repeats of what was erased, the search
        index's keys, and the mirror's lines, unless it cannot be written. The rest is done after the next start. The
        log is emptied by others.
        """
        end = self._monotonic() + FINISH_SECONDS
        while self._copies_due and self._book.writer is not None:
            self._erase_copies(end)
            if self._copies is None or self._monotonic() >= end:
                break  # one round: what is left has not ended
        while self._keys is not None and self._monotonic() < end:
            self._scrub_keys()
        while self._mirror_due and self._mirror is not None and self._monotonic() < end:
            self._scrub()
            if self._mirror.error is not None:
                return

    def _erase_old(self) -> bool:
        """One batch; whether there may be more."""
        if self._book.writer is None:
            return False
        due = self._book.writer.erasable_before(self._clock() - self._retention_ns, MAX_ERASED)
        if due:
            self._book.write([Draft(Erasure(due, "retention", "ledger"), self._clock())])
            self.erased()
        return len(due) == MAX_ERASED

    @property
    def _copies_due(self) -> bool:
        return self._copies is not None or self._book.copies_left

    def _erase_copies(self, now: float) -> None:
        """A page of the replays and repeats whose call was erased without them."""
        writer = self._book.writer
        if writer is None:
            return
        if self._copies is None:
            # Whatever is left behind from here on asks for another round.
            self._copies, self._book.copies_left = CopyRound(), False
        due = self._copies.step(writer.connection)
        for start in range(0, len(due), MAX_ERASED):
            batch = due[start : start + MAX_ERASED]
            self._book.write([Draft(Erasure(batch, "copy", "ledger"), self._clock())])
            self.erased()
        if self._copies.done:
            self._book.copies_left |= self._copies.open
            self._copies, self._next_copies = None, now + RETRY_SECONDS

    def _look_at_keys(self) -> None:
        """Those that were gone through before the newest erasure are gone through again."""
        writer = self._book.writer
        if writer is None:
            self._keys = None
            return
        newest = writer.newest_erasure()
        if self._keys is not None:
            self._keys.erased(newest)
        elif newest > keys_scrubbed(writer.connection):
            self._keys = KeyRounds(writer.connection, newest)

    def _scrub_keys(self) -> None:
        """One step of it. What it wrote lies in the log as well, which is emptied after each round."""
        keys = self._keys
        if self._book.writer is None or keys is None:
            self._keys = None
            return
        try:
            self._log_due |= keys.step()
        except BaseException:
            self._keys = None
            self._book.drop()
            raise
        if keys.done:
            self._keys = None

    def _look_at_mirror(self) -> None:
        if self._mirror is None or self._book.writer is None:
            return
        self._erased = self._book.writer.newest_erasure()
        self._mirror_due = self._erased != self._book.writer.scrubbed

    def _scrub(self) -> None:
        """One step. More erasures do not begin it anew: another round follows for them."""
        if self._mirror is None or self._book.writer is None:
            return
        if not self._mirror.scrubbing:
            self._covers = self._erased
        if self._mirror.scrub(self._book.writer.connection):
            self._book.note_scrubbed(self._covers)
            self._mirror_due = self._covers != self._erased
        elif self._mirror.error is not None:
            self._next_scrub = self._monotonic() + RETRY_SECONDS
