"""The write-ahead log stays small, whoever reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minivault.vault import folding
from minivault.vault.database import open_reader
from tests.vault.samples import open_ledger, record_calls


class Writing:
    """A log that readers keep from beginning anew."""

    def __init__(self, pages: int) -> None:
        self.wal_pages = pages
        self.folded = 0
        self.waited: list[int] = []

    def fold_wal(self) -> None:
        self.folded += 1

    def restart_wal(self, patience_ms: int) -> None:
        self.waited.append(patience_ms)


def test_readers_are_waited_for_once_for_each_thousand_pages_and_longer_for_a_large_log() -> None:
    step, log = folding.Folding(patience=10).step, Writing(0)
    for log.wal_pages in [500, 1000, 3999, 4000, 4010, 4999, 5000, 12_000, 12_500, 13_000]:
        step(log)  # type: ignore[arg-type]
    assert (log.folded, log.waited) == (5, [100, 100, 2000, 2000])
    for log.wal_pages in [3, 4000]:  # begun anew, and grown again
        step(log)  # type: ignore[arg-type]
    assert log.waited[4:] == [100]


def test_readers_are_waited_for_no_longer_than_records_may_wait() -> None:
    step, log = folding.Folding(patience=0.05).step, Writing(0)
    for log.wal_pages in [4000, 12_000]:
        step(log)  # type: ignore[arg-type]
    assert log.waited == [50, 50]


def test_a_reader_that_stays_makes_no_record_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pages in {"FOLD_PAGES": 5, "RESTART_PAGES": 10, "MOST_PAGES": 10}.items():
        monkeypatch.setattr(folding, name, pages)
    ledger = open_ledger(tmp_path, receipt_deadline=1.0)
    record_calls(ledger, 1)
    reader = open_reader(tmp_path / "vault.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchall()
    record_calls(ledger, 20)  # each has its receipts, or this raises
    assert ledger.status().writable
    reader.close()
    ledger.close()


@contextmanager
def reading_always(vault: Path) -> Iterator[None]:
    """Two readers, of whom one begins before the other ends."""
    turns, stop = [threading.Semaphore(0), threading.Semaphore(1)], threading.Event()

    def read(one: int) -> None:
        db = open_reader(vault)
        while not stop.is_set():
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM calls").fetchall()
            turns[one].release()
            turns[1 - one].acquire()
            db.execute("COMMIT")
        turns[one].release()
        db.close()

    threads = [threading.Thread(target=read, args=(one,)) for one in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for turn in turns:
            turn.release()
        for thread in threads:
            thread.join()


def test_the_log_begins_anew_although_there_is_always_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pages in {"FOLD_PAGES": 20, "RESTART_PAGES": 40, "MOST_PAGES": 40}.items():
        monkeypatch.setattr(folding, name, pages)
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 1)
    log, sizes = tmp_path / "vault.db-wal", []
    with reading_always(tmp_path / "vault.db"):
        for _ in range(300):
            record_calls(ledger, 2)
            sizes.append(log.stat().st_size)
    ledger.close()
    assert max(sizes) < 100 * 4096
