"""Reading the vault: lists, filters, one call in full, full-text search, statistics, export. Never writes.

Every query runs on a read-only connection and ends quickly (long walks are cut into pages), so readers never hold up
the ledger. Ownership is a filter in SQL: give an ``owner`` and nothing of another key is seen.

Knows nothing of HTTP or of terminals: what it gives back is plain values.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from minivault.errors import InvalidRequest, LedgerUnavailable, UnknownRecord, VaultCorrupt
from minivault.vault.calls import Call, CallDetail, CallFilter, Page
from minivault.vault.cipher import VaultKey
from minivault.vault.copies import copies_of
from minivault.vault.database import Connection, StorageError, as_error, open_reader, snapshot
from minivault.vault.export import ExportForm, OnAltered, Progress, export
from minivault.vault.head import HeadPaths
from minivault.vault.moving import list_of, require_settled
from minivault.vault.queries import COLUMNS, call_of, select, where
from minivault.vault.record import unpack_token_ids
from minivault.vault.repeats import repeats
from minivault.vault.same_file import GONE
from minivault.vault.schema import is_empty
from minivault.vault.soundness import Evidence, is_sound, marked
from minivault.vault.statistics import statistics

__all__ = ["Call", "CallDetail", "CallFilter", "ExportForm", "Page", "Reader"]

MAX_PAGE = 1000
EXPORT_PAGE = 500
PAGE_BYTES = 16 << 20
"""Of content, after which a page ends, whatever its limit; a page has one call at least."""
MAX_IDLE = 4
"""Connections kept for the next query: each may hold pages of the file in memory."""


class Reader:
    """Reads the vault at a path; thread-safe. A vault that does not exist yet reads as empty, one that
    was there and is gone does not."""

    def __init__(self, path: Path, key: VaultKey | None = None) -> None:
        self.path = path
        self._key = key
        self._was_there = _is_there(path)
        self._idle: deque[Connection] = deque()
        self._closed = threading.Event()

    @classmethod
    def open(cls, path: Path, key: VaultKey | None = None) -> Reader:
        """A reader of the vault at ``path``, with its ``key`` if it has one. Connections are opened when needed."""
        return cls(path, key)

    def close(self) -> None:
        """Close the connections that are not in use; one in use is closed when its query ends."""
        self._closed.set()
        while self._idle:
            self._idle.pop().close()

    @property
    def exists(self) -> bool:
        """Whether there is a vault at all; one that is being put in place counts."""
        return self.path.is_file() or list_of(self.path).exists()

    @contextmanager
    def connection(self) -> Iterator[Connection | None]:
        """A read-only connection for this thread; ``None`` if there is no vault yet.

        Raises:
            VaultCorrupt: the file is damaged, no vault, or of another version.
            LedgerUnavailable: it cannot be read, or was removed since this reader was made.
            ConfigError: there is a key, and the vault is not encrypted.
        """
        try:
            db = self._take_idle() or self._connect()
        except (StorageError, OSError) as error:
            raise as_error(error, "the vault cannot be read") from error
        try:
            yield db
        except StorageError as error:
            raise as_error(error, "the vault cannot be read") from error
        except UnicodeDecodeError as error:
            raise VaultCorrupt("the vault's list holds text that is not Unicode; run vault verify") from error
        finally:
            if db is not None and (self._closed.is_set() or len(self._idle) >= MAX_IDLE):
                db.close()
            elif db is not None:
                self._idle.append(db)

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> Connection | None:
        require_settled(self.path)
        if not self.exists:
            if self._was_there:
                raise LedgerUnavailable(GONE)
            return None
        db = open_reader(self.path, self._key)
        self._was_there = True
        if is_empty(db):
            db.close()
            return None
        return db

    def list(
        self,
        filters: CallFilter | None = None,
        *,
        cursor: str | None = None,
        limit: int = 50,
        oldest_first: bool = False,
    ) -> Page:
        """A page of calls, newest first unless ``oldest_first``; paged by key, so a page costs the same wherever it is.

        It ends after ``limit`` calls, or before when it holds 16 MiB; ``next_cursor`` goes on in either case. Each call
        is held against its records: ``altered`` where they do not agree.

        Raises:
            InvalidRequest: ``limit`` is not in 1 .. 1000, or ``cursor`` was not made here, or a search without words.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"limit must lie in 1 .. {MAX_PAGE}", param="limit")
        sql, values = select(filters or CallFilter(), cursor, limit + 1, oldest_first)
        with self.connection() as db:
            if db is None:
                return Page((), None)
            with snapshot(db):
                page = _page(db, sql, values, limit)
                return replace(page, calls=marked(db, page.calls))

    def search(self, query: str, *, cursor: str | None = None, limit: int = 50) -> Page:
        """The newest calls whose prompt or response holds the words of ``query``."""
        return self.list(CallFilter(query=query), cursor=cursor, limit=limit)

    def finished_after(self, outcome_index: int, *, limit: int = 100) -> tuple[Call, ...]:
        """Calls in the order in which they ended, from behind ``outcome_index`` on (-1: all), checked as a list is."""
        sql = f"SELECT {COLUMNS} FROM calls AS c JOIN call_texts AS t USING (intent_index)"  # noqa: S608 - constants
        sql += " WHERE c.outcome_index > ? ORDER BY c.outcome_index LIMIT ?"
        with self.connection() as db:
            if db is None:
                return ()
            with snapshot(db):
                return marked(db, [call_of(row) for row in db.execute(sql, (outcome_index, limit))])

    def get(self, id_or_index: str | int, *, owner: str | None = None) -> CallDetail:
        """One call by its id or by the index of either of its records. Of several calls with one id: the newest.

        Raises:
            UnknownRecord: there is none, or it belongs to another key than ``owner``.
        """
        with self.connection() as db:
            index = None if db is None else _find(db, id_or_index, owner)
            if db is None or index is None:
                raise UnknownRecord("no such record in the vault")
            with snapshot(db):
                return _detail(db, index)

    def repeats(self, repeat_key: int, /, *, owner: str | None = None) -> tuple[CallDetail, ...]:
        """The oldest calls with this key that were answered whole, whose content is there and is what their records
        commit to; ``owner``: the only API key whose calls count.
        """
        with self.connection() as db:
            return () if db is None else repeats(db, repeat_key, owner, _detail)

    def is_sound(self, index: int, /) -> bool:
        """Whether the call whose intent has this index is on record as its records commit to, leaves and content."""
        with self.connection() as db:
            return db is not None and is_sound(db, index)

    def erasable(self, filters: CallFilter | None = None, *, after: int = -1, limit: int = 64) -> tuple[int, ...]:
        """Indexes of the intents of calls behind ``after`` that have ended and whose content is there, oldest first."""
        tests, values = where(filters or CallFilter())
        sql = f"SELECT c.intent_index FROM calls AS c WHERE {tests} AND {_ERASABLE} ORDER BY c.intent_index LIMIT ?"  # noqa: S608 - constants
        with self.connection() as db:
            rows = [] if db is None else list(db.execute(sql, [*values, after, limit]))
        return tuple(index for (index,) in rows)

    def copies(self, intents: Iterable[int]) -> tuple[int, ...]:
        """Intents of ended replays and repeats of these calls that hold content: erasing the calls takes them too."""
        with self.connection() as db:
            return () if db is None else copies_of(db, intents)[0]

    def erased_by(self, index: int, /) -> tuple[int, ...]:
        """Intents of the calls whose content went by the erasure with this index, oldest first."""
        sql = "SELECT intent_index FROM calls WHERE erased_index = ? ORDER BY intent_index"
        with self.connection() as db:
            return () if db is None else tuple(intent for (intent,) in db.execute(sql, (index,)))

    def erased_calls(
        self, prefix: str, after: str = "", *, limit: int = 1000
    ) -> tuple[tuple[tuple[str, str | None], ...], str]:
        """Ids beginning with ``prefix``, and API keys, of calls that were erased by a record behind the mark ``after``,
        in the order of those records, and the mark to go on behind: those of one record are given together. Imported
        calls are left out: their ids come from outside. Where the record of ``after`` is not in the vault, it was set
        back, and all are given.

        ``limit``: of calls looked at, at least the 64 that one record can erase.
        """
        with self.connection() as db:
            if db is None:
                return (), ""
            with snapshot(db):
                newest = db.execute("SELECT max(erased_index) FROM calls WHERE erased_index IS NOT NULL").get
                if newest is None:
                    return (), ""
                start = _marked(db, after)
                if newest <= start:
                    return (), after
                rows: list[tuple[Any, ...]] = db.execute(_ERASED_AFTER, (start, limit + 1)).fetchall()
                if len(rows) > limit:
                    rows = [row for row in rows if row[0] != rows[-1][0]]
                mark = _mark(db, rows[-1][0])
        found = ((name, key) for _, name, key, surface in rows if name.startswith(prefix) and surface != "import")
        return tuple(found), mark

    def raw_request(self, index: int, /) -> bytes | None:
        """The body of the call whose intent has this index, as it came; ``None`` if nothing is kept of it."""
        sql = "SELECT data FROM contents WHERE leaf_index = ? AND kind = 'raw_request'"
        with self.connection() as db:
            found = None if db is None else db.execute(sql, (index,)).get
        return None if found is None else bytes(found)

    def holds_import(self, request_id: str) -> bool:
        """Whether an imported call of this id is there whole."""
        sql = "SELECT 1 FROM calls WHERE request_id = ? AND surface = 'import' AND finish_reason = 'imported'"
        with self.connection() as db:
            return db is not None and db.execute(sql, (request_id,)).get is not None

    def names_keys(self) -> bool:
        """Whether any call was made with an API key. One look at an index, however large the vault."""
        with self.connection() as db:
            return db is not None and db.execute(_OF_ANY_KEY).get is not None

    def stats(self, filters: CallFilter | None = None) -> dict[str, Any]:
        """As ``statistics.statistics``; the words of a search do not count."""
        with self.connection() as db:
            return statistics(db, *where(filters or CallFilter()))

    def count(self, filters: CallFilter | None = None) -> int:
        """How many calls fit; the words of a search do not count."""
        tests, values = where(filters or CallFilter())
        with self.connection() as db:
            return 0 if db is None else int(db.execute(f"SELECT count(*) FROM calls AS c WHERE {tests}", values).get)  # noqa: S608 - constants

    def head(self) -> tuple[str, str]:
        """The newest signed head as a note, and the key that signs as ``name+id+key``.

        Raises:
            UnknownRecord: none was signed yet.
            VaultCorrupt: it is not signed by the vault's key.
        """
        paths = HeadPaths(self.path)
        note, key = paths.load_note(), paths.load_key()
        if note is None or paths.load_head() is None:
            raise UnknownRecord("no head was signed yet")
        return note, str(key)

    def proof(self, id_or_index: str | int, *, owner: str | None = None) -> str:
        """As ``proof.prove``."""
        from minivault.vault.proof import prove

        return prove(self, id_or_index, owner=owner)

    def walk(self, filters: CallFilter | None = None) -> Iterator[Call]:
        """Every call, oldest first, in pages: no long-lived snapshot."""
        cursor: str | None = None
        while True:
            page = self.list(filters, cursor=cursor, limit=EXPORT_PAGE, oldest_first=True)
            yield from page.calls
            cursor = page.next_cursor
            if cursor is None:
                return

    def walk_in_full(self, filters: CallFilter | None = None) -> Iterator[CallDetail]:
        """As :meth:`walk`, each call with all that is recorded of it. One whose records are missing is given without
        them, as ``altered``."""
        cursor: str | None = None
        while True:
            sql, values = select(filters or CallFilter(), cursor, EXPORT_PAGE + 1, oldest_first=True)
            with self.connection() as db:
                if db is None:
                    return
                with snapshot(db):
                    page = _page(db, sql, values, EXPORT_PAGE)
                    evidence = Evidence(db, page.calls, in_full=True)
            # Outside: whoever takes the calls may be slow, and holds up nobody.
            yield from map(evidence.in_full, page.calls)
            cursor = page.next_cursor
            if cursor is None:
                return

    def export(
        self,
        form: ExportForm,
        filters: CallFilter | None = None,
        progress: Progress | None = None,
        on_altered: OnAltered | None = None,
    ) -> Iterator[bytes]:
        """As ``export.export``."""
        return export(self, form, filters, progress, on_altered)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # whoever reads it will say why it cannot
        return False


_OF_ANY_KEY = "SELECT 1 FROM calls WHERE api_key_id IS NOT NULL LIMIT 1"
_ERASABLE = "c.store = 1 AND c.outcome_index IS NOT NULL AND c.erased_index IS NULL AND c.intent_index > ?"


_ERASED_AFTER = """
SELECT erased_index, request_id, api_key_id, surface FROM calls WHERE erased_index > ?
ORDER BY erased_index, intent_index LIMIT ?
"""


def _mark(db: Connection, index: int) -> str:
    """A record by its index and its leaf: after a restore, another may have the index."""
    leaf = db.execute("SELECT hash FROM leaves WHERE leaf_index = ?", (index,)).get
    return f"{index} {'' if leaf is None else bytes(leaf).hex()}"


def _marked(db: Connection, mark: str) -> int:
    """The index of the record that ``mark`` was made of; -1 where it is not in this vault."""
    index = mark.partition(" ")[0]
    return int(index) if index.isdecimal() and mark == _mark(db, int(index)) else -1


def _page(db: Connection, sql: str, values: list[Any], limit: int) -> Page:
    calls: list[Call] = []
    held = 0
    # A query that is left early goes with its cursor. Not by close(): apsw 3.54 never frees a cursor that was closed.
    for *row, size in db.execute(sql, values):
        call = call_of(tuple(row))
        held += size
        if len(calls) == limit or (calls and held > PAGE_BYTES):
            return Page(tuple(calls), str(calls[-1].index))
        calls.append(call)
    return Page(tuple(calls), None)


def _find(db: Connection, id_or_index: str | int, owner: str | None) -> int | None:
    """The intent's index. Digits are an index first: no id that a client chose may stand for another's record."""
    owned = "(? IS NULL OR api_key_id = ?)"
    found = None
    if re.fullmatch(r"[0-9]{1,18}", str(id_or_index)):
        index = int(id_or_index)
        by_index = f"SELECT intent_index FROM calls WHERE (intent_index = ? OR outcome_index = ?) AND {owned}"  # noqa: S608 - constants
        found = db.execute(by_index, (index, index, owner, owner)).get
    if found is None:
        by_id = f"SELECT max(intent_index) FROM calls WHERE request_id = ? AND {owned}"  # noqa: S608 - constants
        found = db.execute(by_id, (str(id_or_index), owner, owner)).get
    return None if found is None else int(found)


def _detail(db: Connection, index: int) -> CallDetail:
    sql = f"SELECT {COLUMNS} FROM calls AS c JOIN call_texts AS t USING (intent_index) WHERE c.intent_index = ?"  # noqa: S608 - constants
    call = call_of(next(db.execute(sql, (index,))))
    intent, intent_leaf = _leaf(db, call.index)
    outcome, outcome_leaf = (None, None) if call.outcome_index is None else _leaf(db, call.outcome_index)
    return CallDetail(
        call=call,
        intent=intent,
        intent_leaf=intent_leaf,
        outcome=outcome,
        outcome_leaf=outcome_leaf,
        prompt_token_ids=_token_ids(db, call.index, "prompt_token_ids"),
        response_token_ids=_token_ids(db, call.outcome_index, "response_token_ids"),
        salts=_salts(db, call),
        constraints=_constraints(db, call.index),
    )


def _leaf(db: Connection, index: int) -> tuple[dict[str, Any], str]:
    row: tuple[Any, ...] | None = next(db.execute("SELECT data, hash FROM leaves WHERE leaf_index = ?", (index,)), None)
    try:
        leaf = None if row is None else json.loads(row[0])
    except (ValueError, TypeError, RecursionError):
        leaf = None
    if row is None or not isinstance(leaf, dict) or not isinstance(row[1], bytes):
        raise VaultCorrupt(f"record {index} is missing, or is none; run vault verify")
    return leaf, row[1].hex()


def _token_ids(db: Connection, index: int | None, kind: str) -> tuple[int, ...] | None:
    found = db.execute("SELECT data FROM contents WHERE leaf_index = ? AND kind = ?", (index, kind)).get
    return None if found is None else unpack_token_ids(found)


def _constraints(db: Connection, index: int) -> str | None:
    found = db.execute("SELECT data FROM contents WHERE leaf_index = ? AND kind = 'constraints'", (index,)).get
    return bytes(found).decode("utf-8", "replace") if isinstance(found, bytes) else None


def _salts(db: Connection, call: Call) -> dict[str, str] | None:
    sql = "SELECT kind, salt FROM contents WHERE leaf_index IN (?, ?)"
    return {kind: salt.hex() for kind, salt in db.execute(sql, (call.index, call.outcome_index))} or None
