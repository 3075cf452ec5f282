"""The book behind the ledger: the tree, the open calls and the writer, used by one thread, without futures.

:meth:`Book.write` makes a group of records durable or raises; after it raised, the book is *down* and writes nothing
until :meth:`Book.resume` has opened the file anew, emptied its write-ahead log, and checked that every record that was
ever acknowledged is still there. Knows nothing of threads, callers or deadlines.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from minivault.errors import InvalidRequest, LedgerUnavailable, MiniVaultError, UnknownRecord, VaultCorrupt
from minivault.generation import FinishReason
from minivault.vault.batch import Batch, CallEnd, CallStart, OpenCall
from minivault.vault.copies import MOST, copied_record
from minivault.vault.database import Writer
from minivault.vault.folding import Folding
from minivault.vault.merkle import Tree, root_of
from minivault.vault.record import (
    Clock,
    Entropy,
    Erasure,
    Intent,
    Outcome,
    Receipt,
    SealedRecord,
    seal_erasure,
    seal_intent,
    seal_outcome,
)
from minivault.vault.same_file import LOG_GONE, SameFile

FreeSpace = Callable[[Path], tuple[int, int]]
"""``(free, total)`` bytes of the file system that holds a path."""

MAX_GROUP = 256
DISK_RESERVE = 16 << 20
MAX_ERASED = 64
"""Calls that one erasure takes: a bound on how long it holds up other records."""
LOST = "the record could not be made durable in time; the caller was told so"


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to write, and when it was handed over."""

    record: Intent | Outcome | Erasure
    time_ns: int


def free_space(path: Path) -> tuple[int, int]:
    """``(free, total)`` bytes of the file system that holds ``path``, as an unprivileged user sees it."""
    found = shutil.disk_usage(path)
    return found.free, found.total


class Book:
    """Records, durable and in order. Down until the first :meth:`resume`."""

    def __init__(
        self, path: Path, *, open_writer: Callable[[], Writer], entropy: Entropy, free: FreeSpace, patience: float = 2.0
    ) -> None:
        """``patience``: seconds for which readers may hold up records, so that the log begins anew."""
        self._path = path
        self._file = SameFile(path)
        self._log: SameFile | None = None
        self._log_gone = False
        self._open_writer = open_writer
        self._entropy = entropy
        self._free = free
        self.writer: Writer | None = None
        """``None`` while down."""
        self.tree = Tree()
        """As of the last commit that was reported as done."""
        self.open_calls: dict[int, OpenCall] = {}
        self._folding = Folding(patience)
        self.copies_left = True
        """There may be replays and repeats of erased calls that hold their content yet."""

    def resume(self) -> list[OpenCall]:
        """Open the file, check it and try a write. Returns the open calls that nobody here answers for.

        Raises:
            StorageError, OSError: it still cannot be written.
            LedgerUnavailable: it is not the file that was open before, or its log was removed while it was open.
            VaultCorrupt: it does not hold together, or lacks records that were acknowledged.
        """
        # Order: before it is opened. A missing file would be made anew, and another one take in the log beside it.
        self._file.require()
        if self._log_gone:
            # For good: readers of this process have the old log open, and would take a new one for it.
            raise LedgerUnavailable(LOG_GONE)
        writer = self._open_writer()
        try:
            self._file.note()
            writer.reset_wal()
            tree = writer.load_tree()
            if tree.size < self.tree.size or root_of(self.tree.size, writer.node) != self.tree.root():
                raise VaultCorrupt("the vault no longer holds what was acknowledged; run vault verify")
            writer.probe()
            log = SameFile(writer.log_path, LOG_GONE)
            log.note()
            found = {call.intent_index: call for call in writer.open_calls()}
        except BaseException:
            writer.close()
            raise
        orphans = [call for index, call in found.items() if index not in self.open_calls]
        self.writer, self.tree, self.open_calls, self._log = writer, tree, found, log
        return orphans

    def write(self, drafts: Sequence[Draft]) -> list[Receipt | MiniVaultError]:
        """Make the group durable; one result for each draft, in order: its receipt, or why it alone was refused.

        Raises:
            Exception: the group is not durable as far as anyone may be told, and the book is down.
        """
        if self.writer is None:
            raise LedgerUnavailable("the vault cannot be written")
        self.require_file()
        tree, batch = self.tree.copy(), Batch()
        refuse_intents = any(isinstance(draft.record, Intent) for draft in drafts) and self.short_of_space()
        results: list[Receipt | MiniVaultError] = []
        for draft in drafts:
            try:
                sealed = self._seal(draft, tree.size, batch, refuse_intents)
            except MiniVaultError as refusal:
                results.append(refusal)
                continue
            batch.records.append(sealed)
            batch.nodes += tree.append(sealed.hash)[1:]
            call_id = batch.starts[-1].request_id if isinstance(draft.record, Intent) else None
            results.append(Receipt(sealed.index, sealed.hash.hex(), call_id))
        if batch.records:
            self._commit(batch, tree)
        return results

    def short_of_space(self) -> bool:
        """Whether new calls are refused so that the calls already begun can still be ended.

        The reserve is 16 MiB, or an eighth of a small file system.
        """
        free, total = self._free(self._path.parent)
        return free < min(DISK_RESERVE, total // 8)

    def fold_wal(self) -> None:
        """Move the write-ahead log into the file once it has grown. A failure takes the book down."""
        if self.writer is not None:
            try:
                self._folding.step(self.writer)
            except BaseException:
                self.drop()
                raise

    def wipe(self) -> bool:
        """Empty the write-ahead log, so that no copy of what was erased is left there; false while a reader is in the
        way. A failure takes the book down.
        """
        if self.writer is None:
            return False
        try:
            return self.writer.wipe_wal()
        except BaseException:
            self.drop()
            raise

    def note_scrubbed(self, erasure: int) -> None:
        """The mirror holds no line that this erasure, or one before it, took away. A failure takes the book down."""
        if self.writer is not None:
            try:
                self.writer.scrubbed = erasure
            except BaseException:
                self.drop()
                raise

    def drop(self) -> None:
        """Go down: close the connection without writing another byte."""
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.close()

    def _commit(self, batch: Batch, tree: Tree) -> None:
        assert self.writer is not None  # noqa: S101 - write() has just looked
        try:
            self.writer.commit(batch, tree)
        except BaseException:
            self.drop()
            raise
        # Once more: a receipt is given for what stands in the file at its path.
        self.require_file()
        self.tree = tree
        for start in batch.starts:
            self.open_calls[start.intent_index] = OpenCall(
                start.intent_index, start.request_id, start.store, start.prompt_tokens
            )
        for end in batch.ends:
            del self.open_calls[end.intent_index]

    def require_file(self) -> None:
        """That the paths lead to the open file and its log; the book is down if not.

        Raises:
            LedgerUnavailable, OSError: they do not, or cannot be looked at.
        """
        try:
            self._file.require()
            self._require_log()
        except BaseException:
            self.drop()
            raise

    def _require_log(self) -> None:
        try:
            if self._log is not None:
                self._log.require()
        except LedgerUnavailable:
            self._log_gone = True
            if self.writer is not None:
                self.writer.fold_wal()  # what it holds has no other name
            raise

    def _seal_erasure(self, erasure: Erasure, index: int, time_ns: int, batch: Batch) -> SealedRecord:
        assert self.writer is not None  # noqa: S101 - write() has just looked
        if len(erasure.intents) > MAX_ERASED:
            raise InvalidRequest(f"an erasure takes at most {MAX_ERASED} calls", param="intents")
        copies, running = self.writer.copies(erasure.intents)
        # What goes on, or is too much for one record, is seen to by whoever asks `copies_left`.
        begun = any(start.copy_of is not None for start in batch.starts)
        self.copies_left |= running or begun or len(copies) > MOST
        wanted = {*erasure.intents, *copies[:MOST]} - batch.erased.keys()
        intents = self.writer.erasable(wanted)
        if not intents:
            raise UnknownRecord("no content to erase: not stored, erased already, or the call has not ended")
        batch.erased |= dict.fromkeys(intents, index)
        return seal_erasure(replace(erasure, intents=intents), index=index, time_ns=time_ns)

    def _own_id(self, intent: Intent, batch: Batch) -> str:
        """The id asked for, or with a drawn ending where another call has it: clients choose ids, and may repeat them.

        An import asks for the id that says whether it was done already, and keeps it.
        """
        assert self.writer is not None  # noqa: S101 - write() has just looked
        asked = intent.request_id
        if intent.surface == "import":
            return asked
        known = self.writer.connection.execute("SELECT 1 FROM calls WHERE request_id = ?", (asked,)).get
        taken = known is not None or any(start.request_id == asked for start in batch.starts)
        return f"{asked}-{self._entropy(8).hex()}" if taken else asked

    def _seal(self, draft: Draft, index: int, batch: Batch, refuse_intents: bool) -> SealedRecord:
        record = draft.record
        try:
            if isinstance(record, Intent):
                copied = copied_record(record.parameters)
                if copied is not None and self.writer is not None:
                    # It was asked for before its call was erased, and holds anew what went.
                    self.copies_left |= bool(batch.erased) or self.writer.is_erased(copied)
                if refuse_intents:
                    raise LedgerUnavailable("the disk is nearly full: new calls are refused until there is room")
                record = replace(record, request_id=self._own_id(record, batch))
                sealed = seal_intent(record, index=index, time_ns=draft.time_ns, entropy=self._entropy)
                batch.starts.append(_call_start(record, index, draft.time_ns))
                return sealed
            if isinstance(record, Erasure):
                return self._seal_erasure(record, index, draft.time_ns, batch)
            call = self.open_calls.get(record.intent_index)
            if call is None or any(end.intent_index == record.intent_index for end in batch.ends):
                raise UnknownRecord("no open call has this intent: it never began, or has ended")
            sealed = seal_outcome(
                record,
                request_id=call.request_id,
                store=call.store,
                index=index,
                time_ns=draft.time_ns,
                entropy=self._entropy,
            )
        except ValueError as error:
            raise LedgerUnavailable(f"the record cannot be put into canonical bytes: {_reason(error)}") from error
        batch.ends.append(_call_end(record, index, call.store))
        return sealed


def close_orphans(book: Book, orphans: Iterable[OpenCall], *, reason: FinishReason, clock: Clock) -> None:
    """Write an outcome for calls that nobody answers for, through the same path as any other outcome."""
    error = LOST if reason is FinishReason.FAILED else None
    drafts = [Draft(bare_outcome(call, reason, error), clock()) for call in orphans]
    for start in range(0, len(drafts), MAX_GROUP):
        book.write(drafts[start : start + MAX_GROUP])


def bare_outcome(call: OpenCall, reason: FinishReason, error: str | None) -> Outcome:
    """An outcome of which nothing is known but why."""
    return Outcome(
        intent_index=call.intent_index,
        finish_reason=reason.value,
        response_text="",
        response_token_ids=(),
        prompt_tokens=call.prompt_tokens,
        completion_tokens=0,
        timings={},
        error=error,
    )


def _call_start(intent: Intent, index: int, time_ns: int) -> CallStart:
    return CallStart(
        intent_index=index,
        request_id=intent.request_id,
        time_ns=time_ns,
        model=intent.pin.model,
        surface=intent.surface,
        source=intent.source,
        api_key_id=intent.api_key_id,
        mode=intent.mode,
        store=intent.store,
        prompt_tokens=len(intent.prompt_token_ids),
        repeat_key=intent.repeat_key if intent.store else None,
        copy_of=copied_record(intent.parameters),
    )


def _call_end(outcome: Outcome, index: int, store: bool) -> CallEnd:
    return CallEnd(
        intent_index=outcome.intent_index,
        outcome_index=index,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        finish_reason=str(outcome.finish_reason),
        duration_ns=outcome.timings.get("total_ns"),
        searchable=store,
    )


def _reason(error: ValueError) -> str:
    """The cause without any content: a UnicodeEncodeError's own words quote the text."""
    return "text that is not Unicode" if isinstance(error, UnicodeError) else str(error)
