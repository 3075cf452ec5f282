"""Where callers leave records for the ledger thread, and how long they have waited there.

The only place where the ledger's threads meet: callers put, the ledger thread takes in groups, the watchdog looks for
what is late. Knows nothing of disks or of what a record is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from minivault.vault.book import MAX_GROUP, Draft
from minivault.vault.record import Erasure, Intent, Receipt

MAX_GROUP_BYTES = 8 << 20
HANGS = "a write to the vault's disk hangs"

Pressing = Callable[[bool], None]
"""Told when records begin to wait for the disk, again of each group, and when none waits any more. Must not raise or
block."""


@dataclass(slots=True, eq=False)
class Entry:
    """A record on its way to the disk."""

    draft: Draft
    future: Future[Receipt]
    deadline: float
    """On the monotonic clock."""
    with_next: bool = False
    """It goes into one transaction with the entry behind it."""

    def size(self) -> int:
        """About how many bytes it will write."""
        record = self.draft.record
        if isinstance(record, Erasure):
            return MAX_GROUP_BYTES // MAX_GROUP
        if isinstance(record, Intent):
            return len(record.prompt_text) + 4 * len(record.prompt_token_ids) + len(record.raw_request)
        return len(record.response_text) + 4 * len(record.response_token_ids)


class Inbox:
    """A bounded queue that is emptied in groups. Thread-safe; nothing here waits for a disk."""

    def __init__(self, max_waiting: int, pressing: Pressing | None = None) -> None:
        self._max_waiting = max_waiting
        self._pressing = pressing
        # All under the condition.
        self._wake = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._in_flight: list[Entry] = []
        self._closed = False
        self._hangs = False
        self._pressed = False

    @property
    def hangs(self) -> bool:
        """Whether the group in flight is past its deadline."""
        return self._hangs

    def put(self, *entries: Entry) -> str | None:
        """Leave an entry, or several that are given together; gives the reason if they are refused."""
        with self._wake:
            if self._closed:
                return "the vault is closing"
            if self._hangs:
                return HANGS
            if len(self._waiting) + len(entries) > self._max_waiting:
                return f"{self._max_waiting} records already wait for the vault's disk"
            self._waiting.extend(entries)
            self._tell()
            self._wake.notify()
        return None

    def take(self, patience: Callable[[], float | None]) -> list[Entry] | None:
        """The next group, which is in flight until :meth:`landed`; ``None`` once closed and empty.

        While nothing waits, ``patience`` says after how many seconds to come back with an empty group: 0 at once,
        ``None`` not before something happens. It is asked again after each :meth:`poke`.
        """
        with self._wake:
            while not self._waiting:
                if self._closed:
                    return None
                seconds = patience()
                if seconds == 0 or not self._wake.wait(seconds):
                    return []
            group, room = [self._waiting.popleft()], MAX_GROUP_BYTES
            while self._waiting and (group[-1].with_next or len(group) < MAX_GROUP):
                room -= group[-1].size()
                if self._waiting[0].size() > room and not group[-1].with_next:
                    break
                group.append(self._waiting.popleft())
            self._in_flight = group
            if self._pressing is not None:
                # Said again of each group: whoever gives way does so for a while, not for ever.
                self._pressing(True)
            return group

    def landed(self) -> None:
        """The group in flight is settled, this way or that."""
        with self._wake:
            self._in_flight = []
            self._hangs = False
            self._tell()

    def late(self, now: float) -> list[Entry]:
        """Entries past their deadline: those in flight (which stay there), and those waiting (which are taken out)."""
        with self._wake:
            late = [entry for entry in self._in_flight if entry.deadline <= now]
            self._hangs = self._hangs or bool(late)
            while self._waiting and self._waiting[0].deadline <= now:
                late.append(self._waiting.popleft())
            self._tell()
        return late

    def _tell(self) -> None:
        """Under the condition, after a change of what waits."""
        pressed = bool(self._waiting or self._in_flight)
        if self._pressing is not None and pressed != self._pressed:
            self._pressing(pressed)
        self._pressed = pressed

    def poke(self) -> bool:
        """Let the taker ask for its patience again; false if it is closed, and may not take again."""
        with self._wake:
            self._wake.notify()
            return not self._closed

    def close(self) -> None:
        """Refuse what comes from now on; what waits is still taken."""
        with self._wake:
            self._closed = True
            self._wake.notify()
