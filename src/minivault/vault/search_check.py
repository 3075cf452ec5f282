"""Does the search index find what is on record? Emptied or filled by hand, it hides or invents them.

Its rows are held against the list, and its words against the contents, which must have been found sound before. The
words are compared without keeping them: each place of a word in a call counts with a weight drawn for this check, so
whoever forged the index could not know how to make the sums agree. SQLite's own comparison of such an index with its
content needs to write, and would hold up the ledger.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from minivault.vault.database import Connection, open_scratch
from minivault.vault.findings import Fault
from minivault.vault.search_keys import keys_are_sound
from minivault.vault.walk import Walk

PAGE_CHARACTERS: Final = 1 << 21
_LEAST: Final = 256
_PRIME: Final = (1 << 61) - 1
_OTHERWISE: Final = frozenset({Fault.FILE, Fault.TREE, Fault.SCHEMA})
"""Faults beside which the list and the contents are as they were."""


def check_search(walk: Walk, db: Connection, *, words: bool) -> None:
    """In one snapshot that the caller holds. Says nothing where what is wrong below is why they differ.

    ``words``: the words too, not only which calls the index has.
    """
    if any(name.startswith("search") for name in walk.remade):
        return
    if any(finding.fault not in _OTHERWISE for finding in walk.findings):
        return
    before = len(walk.findings)
    if db.execute(_SECURE_DELETE).get != 1:
        walk.found(Fault.SEARCH, None, "the search index is set to keep the words of what is erased")
    if db.execute(_OTHER_SETTINGS).get:
        walk.found(Fault.SEARCH, None, "the search index has settings that the vault was not made with")
    for (index,) in db.execute(_NOT_INDEXED, (walk.first,)):
        walk.found(Fault.SEARCH, index, f"the search index lacks the call of record {index}")
    for (row,) in db.execute(_NOT_A_CALL, (walk.first,)):
        walk.found(Fault.SEARCH, row, f"the search index has a row {row}, which is no call with content")
    if words and len(walk.findings) == before and _expected(db, weights := Weights.drawn()) != _found(db, weights):
        walk.found(Fault.SEARCH, None, "the search index does not hold the words of the contents")
    if words and len(walk.findings) == before and not keys_are_sound(db):
        walk.found(Fault.SEARCH, None, "the search index does not lead to all of its words")


@dataclass(frozen=True, slots=True)
class Weights:
    """What makes the sums unforgeable."""

    key: bytes
    values: tuple[int, ...]
    """Five, below 2**28: sums and products of what 2**33 records can say stay within 63 bits."""

    @classmethod
    def drawn(cls) -> Weights:
        return cls(secrets.token_bytes(16), tuple((1 << 27) + secrets.randbelow(1 << 27) for _ in range(5)))

    def sizes(self, rows: Iterator[tuple[Any, ...]]) -> int:
        """One number for the counts of words that the index keeps of each call; totals add up as those of words do."""
        total = 0
        for index, size in rows:
            counts = size if isinstance(size, bytes) else b""
            term = blake2b(b"%d:%b" % (index, counts), digest_size=8, key=self.key).digest()
            total += int.from_bytes(term, "big")
        return total % _PRIME

    def total(self, rows: Iterator[tuple[Any, ...]]) -> int:
        """One number for words and the sums over their places; totals of parts add up to the total of the whole."""
        total = 0
        for word, count, weight in rows:
            term = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8, key=self.key).digest()
            total += int.from_bytes(term, "big") * (weight + count * self.values[4])
        return total % _PRIME


def _found(db: Connection, weights: Weights) -> int:
    """Of the index as it is."""
    db.execute("CREATE VIRTUAL TABLE temp.found_words USING fts5vocab('main', 'search', 'instance')")
    try:
        sizes = weights.sizes(db.execute("SELECT id, sz FROM search_docsize"))
        return (weights.total(db.execute(_sums("temp.found_words"), weights.values[:4])) + sizes) % _PRIME
    finally:
        db.execute("DROP TABLE temp.found_words")


def _expected(db: Connection, weights: Weights) -> int:
    """Of an index that is made anew in memory, of some calls at a time."""
    total, held = 0, 0
    with contextlib.closing(open_scratch()) as scratch:
        scratch.execute(_SCRATCH)
        scratch.execute("BEGIN")
        for row in db.execute(_TEXTS):
            scratch.execute("INSERT INTO page (rowid, prompt, response) VALUES (?, ?, ?)", row)
            held += sum(len(text or "") for text in row[1:]) + _LEAST
            if held >= PAGE_CHARACTERS:
                total, held = total + _take(scratch, weights), 0
        total += _take(scratch, weights)
    return total % _PRIME


def _take(scratch: Connection, weights: Weights) -> int:
    """The total of what the index in memory holds, which is empty after."""
    sizes = weights.sizes(scratch.execute("SELECT id, sz FROM page_docsize"))
    total = weights.total(scratch.execute(_sums("words"), weights.values[:4])) + sizes
    scratch.execute("INSERT INTO page (page) VALUES ('delete-all'); COMMIT; BEGIN")
    return total


def _sums(table: str) -> str:
    return f"""
    SELECT term, count(*), sum(
        (doc * ?1 + offset * ?2 + (col = 'response') * ?3) % 2147483647 * ?4 % 2147483629
    ) FROM {table} GROUP BY term
    """  # noqa: S608 - constants


_SECURE_DELETE: Final = "SELECT v FROM search_config WHERE k = 'secure-delete'"
_OTHER_SETTINGS: Final = "SELECT count(*) FROM search_config WHERE k NOT IN ('secure-delete', 'version')"
_HAS_CONTENT: Final = "store = 1 AND outcome_index IS NOT NULL AND erased_index IS NULL"
_NOT_INDEXED: Final = f"""
SELECT intent_index FROM calls
WHERE {_HAS_CONTENT} AND intent_index >= ? AND NOT EXISTS (SELECT 1 FROM search_docsize WHERE id = intent_index)
ORDER BY intent_index
"""  # noqa: S608 - constants
_NOT_A_CALL: Final = f"""
SELECT id FROM search_docsize
WHERE id >= ? AND NOT EXISTS (SELECT 1 FROM calls WHERE intent_index = id AND {_HAS_CONTENT}) ORDER BY id
"""  # noqa: S608 - constants
# Not through the view call_texts: somebody may have made it anew.
_TEXTS: Final = f"""
SELECT intent_index,
       (SELECT CAST(data AS TEXT) FROM contents WHERE leaf_index = intent_index AND kind = 'prompt_text'),
       (SELECT CAST(data AS TEXT) FROM contents WHERE leaf_index = outcome_index AND kind = 'response_text')
FROM calls WHERE {_HAS_CONTENT}
"""  # noqa: S608 - constants
_SCRATCH: Final = """
CREATE VIRTUAL TABLE page USING fts5 (prompt, response, content = '', tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE words USING fts5vocab('page', 'instance');
"""
