"""Reading the vault: lists, filters, one call in full, full-text search, statistics, export. Never writes.

Every query runs on a read-only connection and ends quickly (long walks are cut into pages), so readers never hold up
the ledger. Ownership is a filter in SQL: give ``api_key_id`` and nothing of another key is seen.

Knows nothing of HTTP or of terminals: what it gives back is plain values.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from minivault.errors import InvalidRequest, UnknownRecord
from minivault.vault.cipher import VaultKey
from minivault.vault.database import Connection, StorageError, as_error, is_empty, open_reader
from minivault.vault.head import HeadPaths
from minivault.vault.record import format_time, unpack_token_ids

MAX_PAGE = 1000
EXPORT_PAGE = 500

_COLUMNS = """
c.intent_index, c.outcome_index, c.request_id, c.time_ns, c.model, c.surface, c.source, c.api_key_id, c.mode, c.store,
c.finish_reason, c.prompt_tokens, c.completion_tokens, c.duration_ns, t.prompt, t.response,
c.erased_index
"""

_JOINED = """
CROSS JOIN calls AS c ON c.intent_index = page.place CROSS JOIN call_texts AS t ON t.intent_index = c.intent_index
"""


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls; every field that is not ``None`` narrows. Times are nanoseconds since 1970, ``after`` inclusive."""

    query: str | None = None
    """Words that prompt or response must hold; words in double quotes must follow each other. Never raw syntax."""
    after_ns: int | None = None
    before_ns: int | None = None
    model: str | None = None
    api_key_id: str | None = None
    surface: str | None = None
    source: str | None = None
    finish_reason: str | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as lists show it. ``prompt`` and ``response`` are ``None`` where content was not stored or is erased."""

    index: int
    """Of its intent."""
    outcome_index: int | None
    """``None``: not ended yet."""
    id: str
    time_ns: int
    model: str
    surface: str
    source: str
    api_key_id: str | None
    mode: str
    store: bool
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int | None
    duration_ns: int | None
    prompt: str | None
    response: str | None
    erased_index: int | None = None
    """The record that says that its content was erased."""
    snippet: str | None = None
    """Around the words found, in a search."""

    @property
    def timestamp(self) -> str:
        """When the call was recorded: UTC, RFC 3339, nine digits."""
        return format_time(self.time_ns)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "index": self.index,
            "outcome_index": self.outcome_index,
            "id": self.id,
            "timestamp": self.timestamp,
            "model": self.model,
            "surface": self.surface,
            "source": self.source,
            "api_key_id": self.api_key_id,
            "mode": self.mode,
            "store": self.store,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens or 0,
                "total_tokens": self.prompt_tokens + (self.completion_tokens or 0),
            },
            "processing_time_ms": None if self.duration_ns is None else round(self.duration_ns / 1e6, 3),
            "prompt": self.prompt,
            "response": self.response,
            "erased_index": self.erased_index,
        }


@dataclass(frozen=True, slots=True)
class CallDetail:
    """One call with all that is recorded of it."""

    call: Call
    intent: dict[str, Any]
    """The intent's leaf: pin, parameters, commitments."""
    intent_leaf: str
    """The leaf's hash, 64 hex digits."""
    outcome: dict[str, Any] | None
    outcome_leaf: str | None
    prompt_token_ids: tuple[int, ...] | None
    response_token_ids: tuple[int, ...] | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        record = None
        if self.call.outcome_index is not None:
            record = {"index": self.call.outcome_index, "leaf": self.outcome_leaf}
        return {
            **self.call.as_dict(),
            "prompt_token_ids": None if self.prompt_token_ids is None else list(self.prompt_token_ids),
            "response_token_ids": None if self.response_token_ids is None else list(self.response_token_ids),
            "intent": {"index": self.call.index, "leaf": self.intent_leaf},
            "record": record,
            "pin": self.intent.get("pin"),
            "parameters": self.intent.get("parameters"),
            "ignored": self.intent.get("ignored"),
            "timings": None if self.outcome is None else self.outcome.get("timings"),
            "error": None if self.outcome is None else self.outcome.get("error"),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls; ``next_cursor`` asks for the page after it, ``None`` at the end."""

    calls: tuple[Call, ...]
    next_cursor: str | None


class Reader:
    """Reads the vault at a path; thread-safe. A vault that does not exist yet reads as empty."""

    def __init__(self, path: Path, key: VaultKey | None = None) -> None:
        self.path = path
        self._key = key
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
        """Whether there is a vault at all."""
        return self.path.is_file()

    @contextmanager
    def connection(self) -> Iterator[Connection | None]:
        """A read-only connection for this thread; ``None`` if there is no vault yet.

        Raises:
            VaultCorrupt: the file is damaged, no vault, or of another version.
            LedgerUnavailable: it cannot be read.
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
        finally:
            if db is not None and self._closed.is_set():
                db.close()
            elif db is not None:
                self._idle.append(db)

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> Connection | None:
        if not self.exists:
            return None
        db = open_reader(self.path, self._key)
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

        Raises:
            InvalidRequest: ``limit`` is not in 1 .. 1000, or ``cursor`` was not made here, or a search without words.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"limit must lie in 1 .. {MAX_PAGE}", param="limit")
        sql, values = _select(filters or CallFilter(), cursor, limit + 1, oldest_first)
        with self.connection() as db:
            rows = [] if db is None else list(db.execute(sql, values))
        calls = tuple(_call(row) for row in rows[:limit])
        return Page(calls, str(calls[-1].index) if len(rows) > limit else None)

    def search(self, query: str, *, cursor: str | None = None, limit: int = 50) -> Page:
        """The newest calls whose prompt or response holds the words of ``query``."""
        return self.list(CallFilter(query=query), cursor=cursor, limit=limit)

    def finished_after(self, outcome_index: int, *, limit: int = 100) -> tuple[Call, ...]:
        """Calls in the order in which they ended, from behind ``outcome_index`` on (-1: all)."""
        sql = f"SELECT {_COLUMNS} FROM calls AS c JOIN call_texts AS t USING (intent_index)"  # noqa: S608 - constants
        sql += " WHERE c.outcome_index > ? ORDER BY c.outcome_index LIMIT ?"
        with self.connection() as db:
            return () if db is None else tuple(_call(row) for row in db.execute(sql, (outcome_index, limit)))

    def get(self, id_or_index: str | int, *, api_key_id: str | None = None) -> CallDetail:
        """One call by its id or by the index of either of its records. Of several calls with one id: the newest.

        Raises:
            UnknownRecord: there is none, or it belongs to another key than ``api_key_id``.
        """
        with self.connection() as db:
            index = None if db is None else _find(db, id_or_index, api_key_id)
            if db is None or index is None:
                raise UnknownRecord("no such record in the vault")
            return _detail(db, index)

    def erasable(self, filters: CallFilter | None = None, *, after: int = -1, limit: int = 64) -> tuple[int, ...]:
        """Indexes of the intents of calls behind ``after`` that have ended and whose content is there, oldest first."""
        where, values = _where(filters or CallFilter())
        sql = f"SELECT c.intent_index FROM calls AS c WHERE {where} AND {_ERASABLE} ORDER BY c.intent_index LIMIT ?"  # noqa: S608 - constants
        with self.connection() as db:
            rows = [] if db is None else list(db.execute(sql, [*values, after, limit]))
        return tuple(index for (index,) in rows)

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

    def stats(self, filters: CallFilter | None = None) -> dict[str, Any]:
        """Totals, by model, by finish reason and by day (UTC); durations in milliseconds. A full scan of ``calls``."""
        where, values = _where(filters or CallFilter())
        with self.connection() as db:
            return _stats(db, where, values)

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

    def proof(self, id_or_index: str | int, *, api_key_id: str | None = None) -> str:
        """As ``proof.prove``."""
        from minivault.vault.proof import prove

        return prove(self, id_or_index, api_key_id=api_key_id)

    def walk(self, filters: CallFilter | None = None) -> Iterator[Call]:
        """Every call, oldest first, in pages: no long-lived snapshot."""
        cursor: str | None = None
        while True:
            page = self.list(filters, cursor=cursor, limit=EXPORT_PAGE, oldest_first=True)
            yield from page.calls
            cursor = page.next_cursor
            if cursor is None:
                return

    def export(self, form: Literal["jsonl", "csv"], filters: CallFilter | None = None) -> Iterator[str]:
        """The calls as text, streamed: whole lines of JSON (with token ids, pin and parameters), or CSV with a head.

        Raises:
            InvalidRequest: another form.
        """
        if form == "jsonl":
            return self._export_jsonl(filters)
        if form == "csv":
            return self._export_csv(filters)
        raise InvalidRequest("format must be jsonl or csv", param="format")

    def _export_jsonl(self, filters: CallFilter | None) -> Iterator[str]:
        for call in self.walk(filters):
            yield json.dumps(self.get(call.index).as_dict(), ensure_ascii=False) + "\n"

    def _export_csv(self, filters: CallFilter | None) -> Iterator[str]:
        buffer = io.StringIO()
        table = csv.writer(buffer)
        table.writerow(CSV_FIELDS)
        for call in self.walk(filters):
            table.writerow(_csv_row(call))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
        yield buffer.getvalue()


_ERASABLE = "c.store = 1 AND c.outcome_index IS NOT NULL AND c.erased_index IS NULL AND c.intent_index > ?"

CSV_FIELDS = (
    "index",
    "outcome_index",
    "id",
    "timestamp",
    "model",
    "surface",
    "source",
    "api_key_id",
    "mode",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "processing_time_ms",
    "prompt",
    "response",
)


def match_expression(query: str) -> str:
    """User text as an FTS5 expression: every word, and every run in double quotes, becomes a quoted phrase; all must
    be found. No character of the text is ever syntax.

    Raises:
        InvalidRequest: there is no word in it.
    """
    phrases = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|([^\s"]+)', query.replace("\x00", " "))]
    phrases = [phrase for phrase in phrases if any(character.isalnum() for character in phrase)]
    if not phrases:
        raise InvalidRequest("query must hold at least one word", param="query")
    return " ".join(f'"{phrase}"' for phrase in phrases)


def _where(filters: CallFilter) -> tuple[str, list[Any]]:
    tests = [
        ("c.time_ns >= ?", filters.after_ns),
        ("c.time_ns < ?", filters.before_ns),
        ("c.model = ?", filters.model),
        ("c.api_key_id = ?", filters.api_key_id),
        ("c.surface = ?", filters.surface),
        ("c.source = ?", filters.source),
        ("c.finish_reason = ?", filters.finish_reason),
        ("c.duration_ns >= ?", filters.min_duration_ns),
        ("c.duration_ns <= ?", filters.max_duration_ns),
    ]
    used = [(sql, value) for sql, value in tests if value is not None]
    return " AND ".join(["1", *(sql for sql, _ in used)]), [value for _, value in used]


def _select(filters: CallFilter, cursor: str | None, limit: int, oldest_first: bool) -> tuple[str, list[Any]]:
    where, values = _where(filters)
    order, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
    key = "c.intent_index" if filters.query is None else "search.rowid"
    if cursor is not None:
        where += f" AND {key} {beyond} ?"
        values.append(_cursor_index(cursor))
    if filters.query is None:
        # The page is found first, so that the texts of its calls are read and of no others.
        page = f"SELECT c.intent_index AS place FROM calls AS c WHERE {where} ORDER BY {key} {order} LIMIT ?"  # noqa: S608 - constants
        sql = f"WITH page AS MATERIALIZED ({page}) SELECT {_COLUMNS} FROM page {_JOINED} ORDER BY page.place {order}"  # noqa: S608 - constants
        return sql, [*values, limit]
    # The walk goes over the search index in the order of its rows, so only one page of matches is read.
    source = "search CROSS JOIN calls AS c ON c.intent_index = search.rowid"
    sql = (
        f"SELECT {_COLUMNS}, snippet(search, -1, '', '', '…', 24)"  # noqa: S608 - constants
        f" FROM {source} JOIN call_texts AS t ON t.intent_index = c.intent_index"
        f" WHERE search MATCH ? AND {where} ORDER BY {key} {order} LIMIT ?"
    )
    return sql, [match_expression(filters.query), *values, limit]


def _cursor_index(cursor: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise InvalidRequest("cursor must be one that a former page gave", param="cursor")
    return int(cursor)


def _call(row: tuple[Any, ...]) -> Call:
    call = Call(*row)
    return replace(call, store=bool(call.store))


def _csv_row(call: Call) -> list[Any]:
    fields = call.as_dict() | call.as_dict()["usage"]
    return [fields[name] for name in CSV_FIELDS]


def _find(db: Connection, id_or_index: str | int, api_key_id: str | None) -> int | None:
    """The intent's index. Digits are an index first: no id that a client chose may stand for another's record."""
    owner = "(? IS NULL OR api_key_id = ?)"
    found = None
    if re.fullmatch(r"[0-9]{1,18}", str(id_or_index)):
        index = int(id_or_index)
        by_index = f"SELECT intent_index FROM calls WHERE (intent_index = ? OR outcome_index = ?) AND {owner}"  # noqa: S608 - constants
        found = db.execute(by_index, (index, index, api_key_id, api_key_id)).get
    if found is None:
        by_id = f"SELECT max(intent_index) FROM calls WHERE request_id = ? AND {owner}"  # noqa: S608 - constants
        found = db.execute(by_id, (str(id_or_index), api_key_id, api_key_id)).get
    return None if found is None else int(found)


def _detail(db: Connection, index: int) -> CallDetail:
    sql = f"SELECT {_COLUMNS} FROM calls AS c JOIN call_texts AS t USING (intent_index) WHERE c.intent_index = ?"  # noqa: S608 - constants
    call = _call(next(db.execute(sql, (index,))))
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
    )


def _leaf(db: Connection, index: int) -> tuple[dict[str, Any], str]:
    data, digest = next(db.execute("SELECT data, hash FROM leaves WHERE leaf_index = ?", (index,)))
    return json.loads(data), digest.hex()


def _token_ids(db: Connection, index: int | None, kind: str) -> tuple[int, ...] | None:
    found = db.execute("SELECT data FROM contents WHERE leaf_index = ? AND kind = ?", (index, kind)).get
    return None if found is None else unpack_token_ids(found)


def _stats(db: Connection | None, where: str, values: list[Any]) -> dict[str, Any]:
    if db is None:
        return {"calls": 0, "open_calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
    totals = next(
        db.execute(
            "SELECT count(*), count(*) - count(c.outcome_index), coalesce(sum(c.prompt_tokens), 0),"  # noqa: S608 - constants
            " coalesce(sum(c.completion_tokens), 0), min(c.time_ns), max(c.time_ns),"
            f" {', '.join(f'percentile(c.duration_ns, {part}) / 1e6' for part in (50, 95, 99))}"
            f" FROM calls AS c WHERE {where}",
            values,
        )
    )
    groups = {
        "models": "c.model",
        "finish_reasons": "coalesce(c.finish_reason, 'open')",
        "days": "strftime('%Y-%m-%d', c.time_ns / 1000000000, 'unixepoch')",
    }
    grouped = {
        name: dict(db.execute(f"SELECT {key}, count(*) FROM calls AS c WHERE {where} GROUP BY 1 ORDER BY 1", values))  # noqa: S608 - constants
        for name, key in groups.items()
    }
    return {
        "calls": totals[0],
        "open_calls": totals[1],
        "prompt_tokens": totals[2],
        "completion_tokens": totals[3],
        "first": None if totals[4] is None else format_time(totals[4]),
        "last": None if totals[5] is None else format_time(totals[5]),
        "processing_time_ms": {"p50": totals[6], "p95": totals[7], "p99": totals[8]},
        **grouped,
    }
