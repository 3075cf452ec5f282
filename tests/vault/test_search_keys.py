"""Keys of the search index that lead past words: all records, contents and words are there, a search misses some."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest

from minivault.vault.database import Connection
from minivault.vault.findings import Fault
from minivault.vault.reader import CallFilter, Reader
from minivault.vault.record import Erasure
from minivault.vault.search_keys import keys_are_sound
from tests.vault.samples import intent, open_ledger, outcome
from tests.vault.tampering import change, check, faults

WORDS = [f"w{number:05}" for number in range(0, 90_000, 7)]


def filled(folder: Path, *, erasing: int) -> Path:
    """Calls of many words, so that the index has pages and segments; every ``erasing``-th is erased at once."""
    draw = random.Random(erasing)  # noqa: S311 - test data
    ledger = open_ledger(folder)
    for number in range(48):
        prompt = " ".join(draw.sample(WORDS, 500))
        index = ledger.append_intent(intent(number, prompt_text=prompt)).result(30).index
        ledger.append_outcome(outcome(index)).result(30)
        if erasing and number % erasing == 0:
            ledger.append_erasure(Erasure((index,), "request", "cli")).result(30)
    ledger.close()
    return folder / "vault.db"


def opened(path: Path) -> Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


@pytest.mark.parametrize("erasing", [0, 2, 5])
def test_the_keys_that_fts5_and_erasures_leave_are_sound(tmp_path: Path, erasing: int) -> None:
    vault = filled(tmp_path, erasing=erasing)
    db = opened(vault)
    assert keys_are_sound(db)
    assert db.execute("SELECT count(*) FROM search_idx WHERE length(term) > 0").get > 5
    db.close()
    assert check(vault).ok


FORGED = {
    "a key made smaller": "UPDATE search_idx SET term = CAST('0w0' || segid AS BLOB) WHERE pgno >> 1 = 2",
    "a second key of a page": "INSERT INTO search_idx SELECT segid, CAST('0w0' AS BLOB), pgno FROM search_idx"
    " WHERE pgno >> 1 = 2",
}


@pytest.mark.parametrize("sql", FORGED.values(), ids=FORGED)
def test_keys_that_hide_words_are_named(tmp_path: Path, sql: str) -> None:
    vault = filled(tmp_path, erasing=0)
    reader = Reader.open(vault)
    asked = [word for word in WORDS if word < "w30000"]
    before = sum(len(reader.list(CallFilter(query=word)).calls) for word in asked)
    change(vault, sql)
    after = sum(len(reader.list(CallFilter(query=word)).calls) for word in asked)
    reader.close()
    assert after < before
    assert faults(check(vault)) == {(Fault.SEARCH, None)}


def test_a_key_behind_the_words_of_its_page_is_not_sound(tmp_path: Path) -> None:
    vault = filled(tmp_path, erasing=0)
    change(vault, "UPDATE search_idx SET term = CAST('0z' AS BLOB) WHERE pgno >> 1 = 2")
    db = opened(vault)
    assert not keys_are_sound(db)
    db.close()
    assert not check(vault).ok
