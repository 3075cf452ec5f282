"""The SQL by which calls are found. Whatever a caller says goes in as a bound value, never as syntax.

Knows nothing of connections.
"""

from __future__ import annotations

import re
from typing import Any

from minivault.errors import InvalidRequest
from minivault.vault.calls import Call, CallFilter

COLUMNS = """
c.intent_index, c.outcome_index, CAST(c.request_id AS BLOB), c.time_ns, CAST(c.model AS BLOB), CAST(c.surface AS BLOB),
CAST(c.source AS BLOB), CAST(c.api_key_id AS BLOB), CAST(c.mode AS BLOB), c.store, CAST(c.finish_reason AS BLOB),
c.prompt_tokens, c.completion_tokens, c.duration_ns, CAST(t.prompt AS BLOB), CAST(t.response AS BLOB), c.erased_index
"""
"""Texts as bytes: whoever alters the file can leave some that are not Unicode."""

_CONTENT_BYTES = """
(SELECT coalesce(sum(length(data)), 0) FROM contents WHERE leaf_index IN (c.intent_index, c.outcome_index))
"""
_STORE = 9
_SNIPPETS = ((0, 12), (1, 24))
"""Of prompt and response, in words."""
_JOINED = """
CROSS JOIN calls AS c ON c.intent_index = page.place CROSS JOIN call_texts AS t ON t.intent_index = c.intent_index
"""


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


def where(filters: CallFilter) -> tuple[str, list[Any]]:
    """A condition on ``calls AS c`` without the words searched for, and its values."""
    tests = [
        ("c.time_ns >= ?", filters.after_ns),
        ("c.time_ns < ?", filters.before_ns),
        ("c.model = ?", filters.model),
        ("c.api_key_id = ?", filters.api_key_id),
        ("c.api_key_id = ?", filters.owner),
        ("c.surface = ?", filters.surface),
        ("c.source = ?", filters.source),
        ("c.finish_reason = ?", filters.finish_reason),
        ("c.duration_ns >= ?", filters.min_duration_ns),
        ("c.duration_ns <= ?", filters.max_duration_ns),
    ]
    used = [(sql, value) for sql, value in tests if value is not None]
    return " AND ".join(["1", *(sql for sql, _ in used)]), [value for _, value in used]


def select(filters: CallFilter, cursor: str | None, limit: int, oldest_first: bool) -> tuple[str, list[Any]]:
    """The query for a page of calls, each row as :func:`call_of` takes it, and behind that the bytes of its content."""
    tests, values = where(filters)
    order, beyond = ("ASC", ">") if oldest_first else ("DESC", "<")
    key = "c.intent_index" if filters.query is None else "search.rowid"
    if cursor is not None:
        tests += f" AND {key} {beyond} ?"
        values.append(_cursor_index(cursor))
    if filters.query is None:
        # The page is found first, so that the texts of its calls are read and of no others.
        page = f"SELECT c.intent_index AS place FROM calls AS c WHERE {tests} ORDER BY {key} {order} LIMIT ?"  # noqa: S608 - constants
        found = f"SELECT {COLUMNS}, {_CONTENT_BYTES} FROM page {_JOINED} ORDER BY page.place {order}"  # noqa: S608 - constants
        return f"WITH page AS MATERIALIZED ({page}) {found}", [*values, limit]
    # The walk goes over the search index in the order of its rows, so only one page of matches is read.
    source = "search CROSS JOIN calls AS c ON c.intent_index = search.rowid"
    snippets = ", ".join(
        f"CAST(snippet(search, {column}, '', '', '…', {words}) AS BLOB)" for column, words in _SNIPPETS
    )
    sql = (
        f"SELECT {COLUMNS}, {snippets}, {_CONTENT_BYTES}"  # noqa: S608 - constants
        f" FROM {source} JOIN call_texts AS t ON t.intent_index = c.intent_index"
        f" WHERE search MATCH ? AND {tests} ORDER BY {key} {order} LIMIT ?"
    )
    return sql, [match_expression(filters.query), *values, limit]


def _cursor_index(cursor: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise InvalidRequest("cursor must be one that a former page gave", param="cursor")
    return int(cursor)


def call_of(row: tuple[Any, ...]) -> Call:
    """A call of a row of ``COLUMNS``, and maybe snippets behind them; what is not Unicode in a text is replaced."""
    values: list[Any] = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in row]
    values[_STORE] = bool(values[_STORE])
    return Call(*values)
