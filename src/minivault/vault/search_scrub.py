"""Takes the beginnings of erased words out of the search index's inner keys, in steps bounded by time.

FTS5 overwrites the words of a row that is deleted, but a page of its index is found by a key, the beginning of the word
that was its first; that key stays when the word goes. It only has to lie above the words of the page before and not
above those of its own, so the beginning of a word that is still there does as well. Knows nothing of what an erasure
is, but that later ones have higher numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from minivault.vault.database import Connection

_COUNTER: Final = "search_scrubbed"
STEP_SECONDS: Final = 0.002
"""Records may come in between two steps; one key takes about a tenth of a millisecond."""
STEP_KEYS: Final = 64
_MAIN: Final = b"0"
"""What FTS5 puts before each word of its index; there are no others without prefix indexes."""

# A row an instance: a row a word would count all of its places, and some are in every call.
_WORDS: Final = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.live_words USING fts5vocab('main', 'search', 'instance')"
_KEYS: Final = """
SELECT segid, term FROM search_idx
WHERE (segid, term) > (?, ?) AND (segid, term) <= (?, ?) AND length(term) > 1 ORDER BY segid, term LIMIT ?
"""
_NEXT: Final = "SELECT CAST(term AS BLOB) FROM temp.live_words WHERE term >= CAST(? AS TEXT) ORDER BY term LIMIT 1"
_CHANGE: Final = "UPDATE OR IGNORE search_idx SET term = ?3 WHERE segid = ?1 AND term = ?2"
_REMOVE: Final = "DELETE FROM search_idx WHERE segid = ?1 AND term = ?2"

_Key = tuple[int, bytes]
"""A key's place: the number of its segment, and the key."""
_FIRST: Final[_Key] = (-1, b"")
_LAST: Final[_Key] = (1 << 62, b"")


def keys_scrubbed(db: Connection) -> int:
    """The newest erasure after which all keys were gone through; -1: none."""
    found = db.execute("SELECT value FROM counters WHERE name = ?", (_COUNTER,)).get
    return -1 if found is None else int(found)


class KeyRounds:
    """Goes through all keys, and again through those that it had passed when more was erased.

    A key that is made after an erasure begins no word of it, so what was passed by then is all there is to see again.
    """

    def __init__(self, db: Connection, erasure: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``db``: the writer's connection. ``erasure``: the newest."""
        self._db = db
        self._monotonic = monotonic
        self.done = False
        self._covers = self._newest = erasure
        """What the end of this round covers, and what is to be covered."""
        self._at, self._to = _FIRST, _LAST
        """This round has passed all keys up to the one, and ends with the other."""
        self._again: _Key | None = None
        """Where the next round ends; ``None``: none is needed."""
        db.execute(_WORDS)

    def erased(self, erasure: int) -> None:
        """More was erased, up to ``erasure``. The round goes on; what it has passed is gone through again after it."""
        self._newest, self.done = erasure, False
        if self._at == _FIRST:
            self._covers, self._again = erasure, None
        else:
            self._again = self._at
        self._to = _LAST

    def step(self) -> bool:
        """Go on for :data:`STEP_SECONDS`, one key at least; what is to be changed is one transaction. Returns whether a
        round ended.

        Raises:
            StorageError: it could not be written.
        """
        until = self._monotonic() + STEP_SECONDS
        keys: list[Any] = self._db.execute(_KEYS, (*self._at, *self._to, STEP_KEYS)).fetchall()
        changes, seen = [], 0
        for segment, key in keys:
            live = _live_key(self._db, key)
            if live != key:
                changes.append((segment, key, live))
            self._at = (segment, key)
            seen += 1
            if self._monotonic() >= until:
                break
        ended = seen == len(keys) < STEP_KEYS
        if changes or ended:
            with self._db:
                self._db.executemany(_CHANGE, [change for change in changes if change[2] is not None])
                # One that stands there still is of a page without words: another has the key that it would get, or no
                # word comes after it. FTS5 takes most such keys away by itself.
                self._db.executemany(_REMOVE, [change[:2] for change in changes])
                if ended:
                    self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (_COUNTER, self._covers))
        if ended:
            self._end_round()
        return ended

    def _end_round(self) -> None:
        self.done = self._again is None
        self._covers, self._at, self._to, self._again = self._newest, _FIRST, self._again or _LAST, None


def _live_key(db: Connection, key: bytes) -> bytes | None:
    """What is to stand in its place: itself, if a word that is there begins so; ``None``: no word comes after it."""
    if not key.startswith(_MAIN):
        return key
    word = key.removeprefix(_MAIN)
    live = db.execute(_NEXT, (word,)).get
    if not isinstance(live, bytes):
        return None
    if live.startswith(word):
        return key
    # No word of the page before is as late as the key, and none of its own is before the next word that there is.
    same = next(place for place in range(len(word)) if live[: place + 1] != word[: place + 1])
    return _MAIN + live[: same + 1]
