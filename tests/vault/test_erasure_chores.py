"""What erasing asks of the ledger's thread: in short steps, none of which keeps another waiting for ever."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from minivault.vault import search_scrub
from minivault.vault.book import Book, Draft
from minivault.vault.database import Writer
from minivault.vault.erasure import FINISH_SECONDS, ErasureChores
from minivault.vault.head import HeadPaths
from minivault.vault.mirror import Mirror
from minivault.vault.record import Erasure
from tests.vault.samples import NOON, counting_entropy, intent, open_ledger, outcome, record_calls, ticking
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

    def record(self) -> None:
        """One more call, and its line."""
        assert self.book.writer is not None
        begun = self.book.tree.size
        self.book.write([Draft(intent(begun), NOON)])
        self.book.write([Draft(outcome(begun), NOON)])
        self.mirror.advance(self.book.writer.connection)

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


@pytest.fixture
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is open can be neither renamed nor removed."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("this system does not list a process's open files")

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def deed(path: Path, *others: Any, **options: Any) -> Any:
            held = {str(one.readlink()) for one in descriptors.iterdir() if one.is_symlink()}
            if held & {str(path), *map(str, others)}:
                raise PermissionError(errno.EACCES, "scripted: the file is open")
            return real(path, *others, **options)

        return deed

    for name in ("replace", "rename", "unlink"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))


@pytest.mark.usefixtures("as_on_windows")
def test_a_mirror_that_is_written_to_is_let_go_before_it_is_replaced(chores: Chores) -> None:
    chores.record()
    chores.erase()
    for step in count():
        if chores.steps.wait() is None:
            break
        if step < 20 and step % 2:
            chores.record()
        chores.steps.step()
        assert chores.mirror.error is None
    chores.record()
    kept = [json.loads(line)["index"] for line in chores.mirror.path.read_text("utf-8").splitlines()]
    assert kept == [*range(3, 17, 2), 17, *range(20, chores.book.tree.size, 2)]


@pytest.mark.usefixtures("as_on_windows")
def test_a_rotation_amid_a_round_of_the_mirror_leaves_nothing_beside_it(chores: Chores) -> None:
    chores.record()
    chores.erase()
    for _ in range(3):
        chores.steps.step()
    assert (chores.mirror.folder / "log.jsonl.part").exists()
    chores.mirror.max_bytes = 1
    chores.record()
    assert chores.mirror.error is None
    assert sorted(path.name for path in chores.mirror.folder.iterdir()) == ["log.jsonl", "log.jsonl.1"]
