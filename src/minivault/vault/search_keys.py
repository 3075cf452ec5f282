"""Do the inner keys of the search index lead to its words? A key that was made smaller by hand hides the words that
stand before its page, though every word is still there: whoever goes through it from the beginning sees them all.

Reads FTS5's pages as SQLite lays them out (``fts5_index.c``): a page is two numbers of two bytes, where its first row
begins and where its words end; behind that end, the places of its words; of each word but the first, how many bytes it
shares with the one before. Knows nothing of what the words should be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from minivault.vault.database import Connection

_SEGMENT_BITS: Final = 37
_PAGE_BITS: Final = 31
_KEYS: Final = "SELECT segid, pgno >> 1, CAST(term AS BLOB) FROM search_idx"
_PAGES: Final = "SELECT id, block FROM search_data WHERE id >= ? ORDER BY id"


def keys_are_sound(db: Connection) -> bool:
    """Whether each key is behind all words of the pages before its own, and before none of its own page or later.

    Keys of pages that are gone are passed over: FTS5 leaves some, and one that was put in is found by SQLite's check.
    """
    keys: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    for segment, page, key in db.execute(_KEYS):
        keys[segment, page].append(key)
    current, last, least = 0, b"", b""
    for row, block in db.execute(_PAGES, (1 << _SEGMENT_BITS,)):
        segment, page = row >> _SEGMENT_BITS, row & ((1 << _SEGMENT_BITS) - 1)
        if page >> _PAGE_BITS:
            continue  # leads to rows of one word, not to words
        if segment != current:
            current, last, least = segment, b"", b""
        here = keys.get((segment, page), ())
        if last and any(key <= last for key in here):
            return False
        least = max((least, *here))
        for word in _words(block):
            if word < least:
                return False
            last = word
    return True


def _words(block: bytes) -> Iterator[bytes]:
    """Of one page, in order, each with the byte that FTS5 puts before it. Ends where the page is none."""
    end = int.from_bytes(block[2:4], "big")
    place, at, word = end, 0, b""
    while place < len(block):
        step, place = _number(block, place)
        first, at = at == 0, at + step
        kept, start = (0, at) if first else _number(block, at)
        length, start = _number(block, start)
        word = word[:kept] + block[start : start + length]
        yield word


def _number(block: bytes, place: int) -> tuple[int, int]:
    """A number of SQLite's variable length, and where the next begins."""
    value = 0
    while place < len(block):
        byte = block[place]
        value, place = value << 7 | byte & 0x7F, place + 1
        if byte < 0x80:
            break
    return value, place
