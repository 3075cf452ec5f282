"""What erasing asks of the ledger's thread: in short steps, none of which keeps another waiting for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from minivault.vault import search_scrub
from minivault.vault.book import Book, Draft
from minivault.vault.database import Writer
from minivault.vault.erasure import FINISH_SECONDS, ErasureChores
from minivault.vault.head import HeadPaths
from minivault.vault.mirror import Mirror
from minivault.vault.record import Erasure
from tests.vault.samples import NOON, counting_entropy, open_ledger, record_calls, ticking
from tests.vault.scripted import eventually
from tests.vault.test_erasure import call, erase, traces


def test_the_log_is_emptied_though_the_keys_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_scrub.KeyRounds, "step", lambda _rounds: False)
    ledger = open_ledger(tmp_path)
    index = call(ledger, 1)
    assert traces(tmp_path) == ["vault.db-wal"]
    erase(ledger, index)
    eventually(lambda: traces(tmp_path) == [])
    monkeypatch.undo()
    ledger.close()


def test_the_last_head_is_signed_before_what_may_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[int | None] = []

    def finish(_chores: ErasureChores) -> None:
        head = HeadPaths(tmp_path / "vault.db").load_head()
        signed.append(None if head is None else head.size)

    monkeypatch.setattr(ErasureChores, "finish", finish)
    ledger = open_ledger(tmp_path, head_interval=3600)
    record_calls(ledger, 3)
    ledger.close()
    assert signed == [6]


# -- the ledger thread's chores, by hand -------------------------------------------------------------------------------


class Chores:
    """A book of eight calls, its mirror, and what erasing asks for, in this thread."""

    def __init__(self, folder: Path, clock: Iterator[float]) -> None:
        record = open_ledger(folder, mirror_dir=folder / "logs")
        self.calls = record_calls(record, 8)
        record.close()
        path = folder / "vault.db"
        self.book = Book(
            path, open_writer=lambda: Writer.open(path), entropy=counting_entropy(), free=lambda _: (1 << 40, 1 << 41)
        )
        self.book.resume()
        self.mirror = Mirror(folder / "logs", 1 << 20)
        self.steps = ErasureChores(
            self.book, self.mirror, retention_days=0, clock=ticking(), monotonic=lambda: next(clock)
        )

    def erase(self) -> None:
        self.book.write([Draft(Erasure((self.calls.pop(0),), "request", "cli"), NOON)])
        self.steps.erased()

    def scrubbed(self) -> tuple[int, int]:
        """Up to which erasure the mirror has let its lines go, and the keys of the search index."""
        assert self.book.writer is not None
        return self.book.writer.scrubbed, search_scrub.keys_scrubbed(self.book.writer.connection)


@pytest.fixture
def chores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chores]:
    monkeypatch.setattr("minivault.vault.scrub.STEP_BYTES", 1)
    made = Chores(tmp_path, count(0.0, 1.0))
    yield made
    made.mirror.close()
    made.book.drop()


def test_erasures_that_keep_coming_do_not_begin_the_mirror_anew(chores: Chores) -> None:
    for _ in range(7):
        chores.erase()
        for _ in range(3):
            chores.steps.step()
    assert chores.scrubbed()[0] >= 16


def test_what_was_erased_amid_a_round_of_the_mirror_goes_in_the_next(chores: Chores) -> None:
    chores.erase()
    for _ in range(4):
        chores.steps.step()
    chores.erase()
    while chores.steps.wait() is not None:
        chores.steps.step()
    lines = chores.mirror.path.read_text("utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [5, 7, 9, 11, 13, 15]
    assert chores.scrubbed() == (17, 17)


def test_at_the_end_erasing_takes_a_few_seconds_at_most(chores: Chores, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = count()
    monkeypatch.setattr(search_scrub.KeyRounds, "step", lambda _rounds: next(steps) < 0)
    chores.erase()
    chores.steps.finish()
    assert next(steps) == FINISH_SECONDS - 1
    assert chores.scrubbed()[1] == -1
