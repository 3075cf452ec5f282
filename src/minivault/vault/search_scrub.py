"""Takes the beginnings of erased words out of the search index's inner keys, in short steps.

FTS5 overwrites the words of a row that is deleted, but a page of its index is found by a key, the beginning of the word
that was its first; that key stays when the word goes. It only has to lie above the words of the page before and not
above those of its own, so the beginning of a word that is still there does as well. Knows nothing of erasures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from minivault.vault.database import Connection

_COUNTER: Final = "search_scrubbed"
STEP_KEYS: Final = 256
_MAIN: Final = b"0"
"""What FTS5 puts before each word of its index; there are no others without prefix indexes."""

_KEYS: Final = """
SELECT segid, term FROM search_idx WHERE (segid, term) > (?, ?) AND length(term) > 1 ORDER BY segid, term LIMIT ?
"""
_NEXT: Final = "SELECT CAST(term AS BLOB) FROM temp.live_words WHERE term >= CAST(? AS TEXT) ORDER BY term LIMIT 1"
_CHANGE: Final = "UPDATE OR IGNORE search_idx SET term = ? WHERE segid = ? AND term = ?"


def keys_scrubbed(db: Connection) -> int:
    """The newest erasure after which all keys were gone through; -1: none."""
    found = db.execute("SELECT value FROM counters WHERE name = ?", (_COUNTER,)).get
    return -1 if found is None else int(found)


def note_keys_scrubbed(db: Connection, erasure: int) -> None:
    """All keys were gone through after ``erasure``."""
    db.execute("INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)", (_COUNTER, erasure))


def without_erased_keys(db: Connection) -> Iterator[None]:
    """Go through all keys; yields between steps, each of which is one transaction. ``db`` is the writer's connection.

    Raises:
        StorageError: it could not be written.
    """
    db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.live_words USING fts5vocab('main', 'search', 'row')")
    segment, last = -1, b""
    while True:
        with db:
            rows: list[tuple[Any, ...]] = db.execute(_KEYS, (segment, last, STEP_KEYS)).fetchall()
            for segid, key in rows:
                _replace(db, segid, key)
        if len(rows) < STEP_KEYS:
            return
        segment, last = rows[-1]
        yield


def _replace(db: Connection, segment: int, key: bytes) -> None:
    word = key.removeprefix(_MAIN)
    live = db.execute(_NEXT, (word,)).get
    if not isinstance(live, bytes) or not key.startswith(_MAIN) or live.startswith(word):
        return
    # No word of the page before is as late as the key, and none of its own is before the next word that there is.
    same = next(place for place in range(len(word)) if live[: place + 1] != word[: place + 1])
    db.execute(_CHANGE, (_MAIN + live[: same + 1], segment, key))
