"""The search index's keys are gone through in short steps, and further erasures do not begin that anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest

from minivault.vault import search_scrub
from minivault.vault.database import Connection, Writer
from minivault.vault.search_scrub import KeyRounds, keys_scrubbed
from tests.vault.samples import open_ledger, record_calls


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    """Of a vault whose search index has some dozens of keys."""
    drawn = random.Random(3)  # noqa: S311 - words
    ledger = open_ledger(tmp_path)
    for _ in range(8):
        record_calls(ledger, 1, prompt_text=" ".join(f"{drawn.getrandbits(48):012x}" for _ in range(2000)))
    ledger.close()
    writer = Writer.open(tmp_path / "vault.db")
    yield writer.connection
    writer.close()


def keys_of(db: Connection) -> int:
    return int(db.execute("SELECT count(*) FROM search_idx WHERE length(term) > 1").get)


def slow(db: Connection, erasure: int = 1) -> KeyRounds:
    """Each look at the clock finds a step's time gone."""
    clock = count(0.0, 1.0)
    return KeyRounds(db, erasure, monotonic=lambda: next(clock))


def steps(rounds: KeyRounds) -> int:
    """How many it takes until it is done."""
    taken = 0
    while not rounds.done:
        rounds.step()
        taken += 1
    return taken


def test_a_step_ends_when_its_time_is_up(db: Connection) -> None:
    assert keys_of(db) > 20
    assert steps(slow(db)) == keys_of(db)
    assert keys_scrubbed(db) == 1


def test_a_step_that_has_time_takes_many_keys_but_not_all(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_scrub, "STEP_KEYS", 10)
    assert steps(KeyRounds(db, 1, monotonic=lambda: 0.0)) == keys_of(db) // 10 + 1


def test_what_a_round_had_passed_is_gone_through_again_and_no_more(db: Connection) -> None:
    rounds = slow(db)
    assert [rounds.step() for _ in range(5)] == [False] * 5
    rounds.erased(2)
    assert steps(rounds) == keys_of(db)
    assert keys_scrubbed(db) == 2


def test_an_erasure_before_the_first_step_takes_no_second_round(db: Connection) -> None:
    rounds = slow(db)
    rounds.erased(2)
    assert steps(rounds) == keys_of(db)
    assert keys_scrubbed(db) == 2


def test_an_erasure_amid_the_second_round_makes_that_a_whole_one(db: Connection) -> None:
    rounds = slow(db)
    rounds.step()
    rounds.erased(2)
    while not rounds.step():
        pass
    assert keys_scrubbed(db) == 1
    rounds.erased(3)
    assert steps(rounds) == keys_of(db)
    assert keys_scrubbed(db) == 3


def test_erasures_without_end_do_not_keep_rounds_from_ending(db: Connection) -> None:
    rounds = slow(db)
    ended = []
    for erasure in range(2, 2 + 3 * keys_of(db)):
        if rounds.step():
            ended.append(keys_scrubbed(db))
        rounds.erased(erasure)
    assert len(ended) == 3
    assert ended == sorted(ended)
    assert ended[2] > ended[0] == 1


@pytest.mark.parametrize("seed", range(6))
def test_pages_whose_words_have_all_gone_keep_no_key(seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311 - words
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value); CREATE TABLE said (id INTEGER PRIMARY KEY, text)")
    db.execute("CREATE VIRTUAL TABLE search USING fts5 (text, content = 'said', content_rowid = 'id')")
    db.execute("INSERT INTO search (search, rank) VALUES ('secure-delete', 1), ('pgsz', 32)")
    words = ["".join(drawn.choices("abcdefg", k=drawn.randint(1, 12))) for _ in range(400)]
    for number in range(80):
        text = " ".join(drawn.choices(words, k=drawn.randint(1, 24)))
        db.execute(
            "INSERT INTO said VALUES (?1, ?2); INSERT INTO search (rowid, text) VALUES (?1, ?2)", (number, text) * 2
        )
    for number in range(3, 80):
        db.execute("DELETE FROM search WHERE rowid = ?; DELETE FROM said WHERE id = ?", (number, number))
    steps(KeyRounds(db, 1))
    live = {word for (text,) in db.execute("SELECT text FROM said") for word in text.split()}
    keys = [bytes(key)[1:].decode() for (key,) in db.execute("SELECT term FROM search_idx WHERE length(term) > 1")]
    assert [key for key in keys if not any(word.startswith(key) for word in live)] == []
    db.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
    assert all(db.execute("SELECT 1 FROM search WHERE search MATCH ?", (f'"{word}"',)).get for word in live)
