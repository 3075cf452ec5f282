"""The ledger: appends records durably, in groups, from one thread, and fails closed.

Callers hand a record over and get a future; they never wait for the disk. The ledger thread owns the book and its one
writable connection: it takes whatever waited while the last commit ran, writes it in one transaction, and resolves the
futures only after the fsync. If that fails, every future of the group fails, the connection is closed, and nothing of
the group is tried again; the next append (and a slow tick) opens the file anew, checks it, and service goes on if
writing works. A second thread fails the futures of a write that hangs.

Knows nothing of HTTP, of engines or of what a prompt means.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from functools import partial
from pathlib import Path

from minivault.errors import LedgerUnavailable, MiniVaultError, UnknownRecord
from minivault.files import sync_folder
from minivault.generation import FinishReason
from minivault.outage import Outage
from minivault.vault.book import LOST, MAX_GROUP, Book, Draft, FreeSpace, bare_outcome, close_orphans, free_space
from minivault.vault.cipher import VaultKey
from minivault.vault.database import StorageError, Writer, as_error, describe
from minivault.vault.erasure import ErasureChores
from minivault.vault.head import HeadKeeper
from minivault.vault.inbox import HANGS, Entry, Inbox, Pressing
from minivault.vault.lock import WriterLock
from minivault.vault.mirror import Mirror
from minivault.vault.record import Clock, Entropy, Erasure, Intent, Outcome, Receipt
from minivault.vault.signing import RETRY_SECONDS, Signing
from minivault.vault.status import LedgerStatus

Observer = Callable[[float, int], None]
"""Called on the ledger thread after each commit: seconds it took, records in the group. Must not raise or block."""

__all__ = ["Ledger", "LedgerStatus", "Observer"]

CLOSED = "the vault is closed"
MOST_LOST_BYTES = 64 << 20
"""Of an answer whose outcome failed and is written again: one larger may be what no database takes, and would fail for
ever."""
LOOK_SECONDS = 10.0
"""How often a ledger without work looks whether its file is still there: /readyz should not wait for a call."""

logger = logging.getLogger("minivault.vault")


class Ledger:
    """The durable, append-only book. Made by :meth:`open`, ended by :meth:`close`; thread-safe in between."""

    def __init__(
        self,
        book: Book,
        lock: WriterLock,
        mirror: Mirror | None,
        heads: HeadKeeper | None,
        *,
        head_interval: float,
        retention_days: float,
        receipt_deadline: float,
        clock: Clock,
        observer: Observer | None,
        max_waiting: int,
        pressing: Pressing | None,
    ) -> None:
        """Use :meth:`open`."""
        self._lock = lock
        self._receipt_deadline = receipt_deadline
        self._clock = clock
        self._observer = observer
        # Owned by the ledger thread.
        self._book = book
        self._mirror = mirror
        self._mirror_due = mirror is not None
        self._signing = Signing(book, heads, head_interval)
        self._chores = ErasureChores(book, mirror, retention_days=retention_days, clock=clock)
        self._short_of_space = False
        self._down: str | None = None
        # Filled by anyone, emptied by the ledger thread: outcomes whose callers were told that they failed.
        self._lost: deque[Outcome] = deque()
        # Filled by the ledger thread, emptied by the watchdog: why it went down, though it may be up again by then.
        self._failures: deque[str] = deque(maxlen=1)
        self._outage = Outage(logger, "no record can be written, so work is refused", "records are written again")
        # Shared by all threads; guards itself.
        self._inbox = Inbox(max_waiting, pressing)
        # Replaced whole by the ledger thread, read by anyone.
        self._status = self._snapshot()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="minivault-ledger", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="minivault-ledger-watch", daemon=True)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        mirror_dir: Path | None,
        mirror_max_bytes: int = 100 << 20,
        receipt_deadline: float = 10.0,
        head_interval: float | None = 60.0,
        head_export: Path | None = None,
        retention_days: float = 0.0,
        clock: Clock = time.time_ns,
        entropy: Entropy = os.urandom,
        observer: Observer | None = None,
        max_waiting: int = 10_000,
        pressing: Pressing | None = None,
        free: FreeSpace = free_space,
        key: VaultKey | None = None,
        open_writer: Callable[[Path], Writer] | None = None,
    ) -> Ledger:
        """Open or create the vault at ``path`` and start the ledger thread.

        Calls that a former process began and did not end have an ``interrupted`` outcome when this returns.
        ``mirror_dir`` is the folder of ``log.jsonl``; ``None`` turns the mirror off. ``receipt_deadline``: seconds.
        ``head_interval``: seconds between signed heads while records come in (one more at the end); ``None``: no heads.
        ``pressing``: told, on any thread, when records begin to wait and when all are through.
        ``head_export``: a file to which each head is appended. ``retention_days``: content of older calls is erased, a
        few at a time; 0 keeps it for ever. ``key``: the file is encrypted with it.

        Raises:
            LedgerUnavailable: another process writes this vault, or the disk cannot be written.
            ConfigError: there is a key, and the vault is not encrypted.
            VaultCorrupt: the vault does not hold together, or is of a newer version.
        """
        opened = open_writer or partial(Writer.open, key=key)
        patience = receipt_deadline / 5
        book = Book(path, open_writer=lambda: opened(path), entropy=entropy, free=free, patience=patience)
        try:
            _make_folder(path.parent)
            lock = WriterLock(path)
        except OSError as error:
            raise LedgerUnavailable(f"the vault's folder cannot be used: {describe(error)}") from error
        try:
            heads = None if head_interval is None else HeadKeeper(path, head_export)
            _recover(book, heads, clock)
        except (StorageError, OSError) as error:
            book.drop()
            lock.release()
            raise as_error(error, "the vault cannot be opened for writing") from error
        except BaseException:
            book.drop()
            lock.release()
            raise
        try:
            mirror = Mirror(mirror_dir, mirror_max_bytes) if mirror_dir is not None else None
            ledger = cls(
                book,
                lock,
                mirror,
                heads,
                head_interval=head_interval or 0.0,
                retention_days=retention_days,
                receipt_deadline=receipt_deadline,
                clock=clock,
                observer=observer,
                max_waiting=max_waiting,
                pressing=pressing,
            )
            ledger._thread.start()
        except BaseException:
            book.drop()
            lock.release()
            raise
        # From here on both are the ledger thread's.
        ledger._watchdog.start()
        return ledger

    def append_intent(self, intent: Intent) -> Future[Receipt]:
        """Hand an intent over; never blocks on the disk.

        The future resolves when the record is durable, and fails with :class:`LedgerUnavailable` when it cannot be made
        so, at the deadline at the latest. It cannot be cancelled: a record handed over is going to be written, and the
        call needs an outcome even if nobody waits for the receipt any more.
        """
        return self._append(intent)[0]

    def append_outcome(self, outcome: Outcome) -> Future[Receipt]:
        """Hand an outcome over; as :meth:`append_intent`.

        A call that is unknown or has ended fails with :class:`UnknownRecord`. When the future fails with
        :class:`LedgerUnavailable`, the ledger ends the call by itself, as ``failed``, as soon as it can write again.
        """
        return self._append(outcome)[0]

    def append_outcomes(self, outcomes: Sequence[Outcome]) -> list[Future[Receipt]]:
        """As :meth:`append_outcome`, of calls that make one answer: after a crash all have ended, or none."""
        return self._append(*outcomes)

    def append_erasure(self, erasure: Erasure) -> Future[Receipt]:
        """Erase the content of up to ``MAX_ERASED`` calls: prompt, answer, token ids, raw request, constraints and
        their salts, the search index's rows, and (a moment later) the mirror's lines. Resolves when that is durable,
        and on record.

        Calls that have not ended, or hold no content, are passed over; if none is left, the future fails with
        :class:`UnknownRecord`.
        """
        return self._append(erasure)[0]

    def sign_head(self) -> Future[int]:
        """Sign a head over all that is recorded by now, without waiting for the next one that is due.

        Resolves with the number of records that the newest signed head covers; fails with :class:`LedgerUnavailable`.
        """
        future = self._signing.ask()
        if not self._inbox.poke():
            self._signing.answer("the vault is closing")
        return future

    def status(self) -> LedgerStatus:
        """The state as of the last commit or failure."""
        status = self._status
        return replace(status, writable=False, reason=HANGS) if self._inbox.hangs else status

    def close(self) -> None:
        """Write what waits, bring the mirror level and let the vault go. Open calls stay open until the next start.

        Returns after twice the receipt deadline even if the disk hangs: what hung was never acknowledged.
        """
        self._inbox.close()
        self._thread.join(2 * self._receipt_deadline)
        self._ended.set()
        self._watchdog.join()

    # What runs on the callers' threads

    def _append(self, *records: Intent | Outcome | Erasure) -> list[Future[Receipt]]:
        """Hand over what goes into one transaction."""
        deadline = time.monotonic() + self._receipt_deadline
        entries = [Entry(Draft(record, self._clock()), Future(), deadline, with_next=True) for record in records]
        entries[-1].with_next = False
        for entry in entries:
            entry.future.set_running_or_notify_cancel()
        refusal = self._inbox.put(*entries)
        for entry in entries if refusal is not None else ():
            self._fail(entry, LedgerUnavailable(refusal or "", retry_after=RETRY_SECONDS))
        return [entry.future for entry in entries]

    # What runs on the ledger thread

    def _run(self) -> None:
        ended = CLOSED
        entries: list[Entry] | None = None
        try:
            while (entries := self._inbox.take(self._patience)) is not None:
                try:
                    self._turn(entries)
                except Exception as error:  # Fail closed, whatever broke: nothing is acknowledged; service may resume.
                    self._go_down(error)
                self._landed(entries)
                self._status = self._snapshot()
        except Exception as error:  # Going down failed too: nothing may look writable. The watchdog fails what waits.
            self._down = ended = f"the vault's thread has ended: {describe(error)}"
            self._inbox.close()
            self._landed(entries or [])
        self._finish(ended)

    def _landed(self, entries: list[Entry]) -> None:
        """The group is through: what has no receipt by now gets none."""
        self._inbox.landed()
        for entry in entries:
            self._fail(entry, LedgerUnavailable(self._down or LOST, retry_after=RETRY_SECONDS))

    def _patience(self) -> float | None:
        """How long chores can wait while no record comes in."""
        if self._down is not None or self._short_of_space:
            return RETRY_SECONDS
        if self._lost or self._mirror_due or self._signing.asked:
            return 0.0
        behind = RETRY_SECONDS if self._mirror is not None and self._mirror.error is not None else None
        waits = (LOOK_SECONDS, self._signing.wait(), self._chores.wait(), behind)
        return min(wait for wait in waits if wait is not None)

    def _turn(self, entries: list[Entry]) -> None:
        if self._book.writer is None:
            orphans = self._book.resume()
            self._down = None
            self._chores.resume()
            self._lost.extend(bare_outcome(call, FinishReason.FAILED, LOST) for call in orphans)
        if entries:
            self._write(entries)
        else:
            self._book.require_file()
        self._close_lost()
        self._chores.step()
        self._book.fold_wal()
        if not entries:
            self._advance_mirror()
        self._signing.step()
        if self._short_of_space:
            self._short_of_space = self._book.short_of_space()

    def _write(self, entries: list[Entry]) -> None:
        started = time.perf_counter()
        results = self._book.write([entry.draft for entry in entries])
        seconds = time.perf_counter() - started
        if any(isinstance(entry.draft.record, Erasure) for entry in entries):
            self._chores.erased()
        self._short_of_space = any(isinstance(result, LedgerUnavailable) for result in results)
        self._status = self._snapshot()
        landed = list(zip(entries, results, strict=True))
        # Order: a call that begins waits for nothing more; the mirror comes before the ends, so that whoever has an
        # answer finds its line.
        for entry, result in landed:
            if isinstance(entry.draft.record, Intent):
                self._answer(entry, result)
        self._advance_mirror()
        self._status = self._snapshot()
        for entry, result in landed:
            if not isinstance(entry.draft.record, Intent):
                self._answer(entry, result)
        if self._observer is not None:
            self._observer(seconds, len(entries))

    def _answer(self, entry: Entry, result: Receipt | MiniVaultError) -> None:
        if isinstance(result, Receipt):
            self._resolve(entry, result)
        else:
            self._fail(entry, result)

    def _resolve(self, entry: Entry, receipt: Receipt) -> None:
        try:
            entry.future.set_result(receipt)
        except InvalidStateError:
            # It landed after the caller had been told that it failed. An outcome has ended its call at least; an intent
            # has begun one that nobody will answer.
            if isinstance(entry.draft.record, Intent):
                call = self._book.open_calls[receipt.index]
                self._lost.append(bare_outcome(call, FinishReason.FAILED, LOST))

    def _fail(self, entry: Entry, error: MiniVaultError) -> None:
        """Fail a future that is not yet resolved (any thread); an outcome is kept, to end its call later."""
        if entry.future.done():
            return
        try:
            entry.future.set_exception(error)
        except InvalidStateError:
            return
        record = entry.draft.record
        if isinstance(record, Outcome) and not isinstance(error, UnknownRecord):
            kept = replace(record, finish_reason=FinishReason.FAILED.value, error=LOST)
            if entry.size() > MOST_LOST_BYTES:
                kept = replace(kept, response_text="", response_token_ids=())
            self._lost.append(kept)
            self._inbox.poke()

    def _close_lost(self) -> None:
        """End the calls whose callers were told that the record failed. Nobody waits for these outcomes."""
        pending = [self._lost.popleft() for _ in range(min(len(self._lost), MAX_GROUP))]
        due = {outcome.intent_index: outcome for outcome in pending if outcome.intent_index in self._book.open_calls}
        if not due:
            return
        try:
            results = self._book.write([Draft(outcome, self._clock()) for outcome in due.values()])
        except Exception:
            self._lost.extendleft(due.values())
            raise
        calls = [self._book.open_calls[index] for index, result in zip(due, results, strict=True) if _failed(result)]
        close_orphans(self._book, calls, reason=FinishReason.FAILED, clock=self._clock)
        self._mirror_due = self._mirror is not None

    def _advance_mirror(self) -> None:
        if self._mirror is not None and self._book.writer is not None:
            self._mirror_due = self._mirror.advance(self._book.writer.connection)

    def _go_down(self, error: Exception) -> None:
        self._down = (
            str(error) if isinstance(error, MiniVaultError) else f"the vault cannot be written: {describe(error)}"
        )
        self._failures.append(self._down)
        if self._mirror is not None:
            self._mirror_due = True
        self._book.drop()
        self._signing.answer(self._down)

    def _finish(self, ended: str) -> None:
        """The last turn: lost calls, the last head, the mirror, an empty write-ahead log. Whatever fails is left to the
        next start, and so is what takes longer than :meth:`close` waits: the head comes before all that may.
        """
        try:
            if self._book.writer is not None:
                self._close_lost()
                self._signing.finish()
                self._advance_mirror()
                while self._mirror_due:
                    self._advance_mirror()
                self._chores.finish()
                self._book.writer.reset_wal()
        except Exception as error:
            self._down = describe(error)
        finally:
            self._status = replace(self._snapshot(), writable=False, reason=ended)
            if self._mirror is not None:
                self._mirror.close()
            self._book.drop()
            self._lock.release()
            self._signing.answer(ended)

    def _snapshot(self) -> LedgerStatus:
        reason = self._down
        if reason is None and self._short_of_space:
            reason = "the disk is nearly full: new calls are refused until there is room"
        return LedgerStatus(
            records=self._book.tree.size,
            tree_size=self._book.tree.size,
            root=self._book.tree.root().hex(),
            writable=reason is None,
            reason=reason,
            open_calls=len(self._book.open_calls),
            mirror_error=None if self._mirror is None else self._mirror.error,
            head_size=self._signing.size,
            signed_at=self._signing.signed_at,
            head_error=self._signing.error,
        )

    # What runs on the watchdog's thread

    def _watch(self) -> None:
        """Fail what waited longer than the deadline. The write itself goes on; if it lands, that is no receipt."""
        interval = min(1.0, self._receipt_deadline / 10)
        while not self._ended.wait(interval):
            late = self._inbox.late(time.monotonic())
            for entry in late:
                self._fail(
                    entry, LedgerUnavailable("the record was not durable at the deadline", retry_after=RETRY_SECONDS)
                )
            self._tell_log()
        self._tell_log()

    def _tell_log(self) -> None:
        """Say why nothing can be written, once, and when that is over. Not on the ledger thread: no record waits for
        a log."""
        reasons = [self._failures.popleft() for _ in range(len(self._failures))]
        reason = self.status().reason
        if reason is not None and reason != CLOSED:
            reasons.append(reason)
        for told in reasons:
            self._outage.fails(told)
        if reason is None and not reasons:
            self._outage.works()


def _failed(result: Receipt | MiniVaultError) -> bool:
    return not isinstance(result, Receipt)


def _recover(book: Book, heads: HeadKeeper | None, clock: Clock) -> None:
    """Open the book, hold it against the newest signed head, and end what a former process left open."""
    if heads is not None:
        heads.check_file()
    orphans = book.resume()
    if heads is not None and book.writer is not None:
        heads.check(book.tree, book.writer.node)
    close_orphans(book, orphans, reason=FinishReason.INTERRUPTED, clock=clock)


def _make_folder(folder: Path, mode: int = 0o700) -> None:
    """Create the vault's folder for its owner alone, and make its name durable, and that of each folder on the way."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, 0o777)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)
