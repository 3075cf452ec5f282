"""A full disk, really full: refused in clear words, nothing acknowledged is lost, and service resumes with room."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minivault.errors import LedgerUnavailable
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.record import Receipt
from minivault.vault.verify import verify
from tests.vault.samples import intent, open_ledger, outcome

PROMPT = "word " * 4000
"""20 kB, so that it takes few records to fill a disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this system does not let root mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``: writes fail as on a full disk, without root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(ledger: Ledger, calls: int = 10_000) -> tuple[list[Receipt], str]:
    """Begin calls until one is refused; gives the receipts and the words of the refusal."""
    receipts: list[Receipt] = []
    for number in range(calls):
        try:
            receipts.append(ledger.append_intent(intent(number, prompt_text=PROMPT)).result(60))
        except LedgerUnavailable as refusal:
            return receipts, refusal.message
    raise AssertionError("the disk never filled up")


def end(ledger: Ledger, receipts: list[Receipt]) -> list[Receipt]:
    futures = [ledger.append_outcome(outcome(receipt.index)) for receipt in receipts]
    return [future.result(60) for future in futures]


def assert_sound(folder: Path, calls: int) -> None:
    reader = Reader.open(folder / "vault.db")
    assert verify(reader).findings == ()
    assert len(list(reader.walk())) >= calls
    lines = [line for path in (folder / "logs").iterdir() for line in path.read_bytes().splitlines()]
    assert len(lines) == reader.stats()["calls"]
    reader.close()


def test_on_a_nearly_full_disk_calls_may_still_end(small_disk: Path) -> None:
    ledger = Ledger.open(small_disk / "vault.db", mirror_dir=small_disk / "logs")
    begun, words = fill(ledger)
    assert "disk is nearly full" in words
    assert len(begun) > 20
    assert len(end(ledger, begun[-5:])) == 5
    ledger.close()


def test_on_a_full_disk_nothing_is_acknowledged_and_service_resumes(small_disk: Path) -> None:
    ledger = Ledger.open(small_disk / "vault.db", mirror_dir=small_disk / "logs")
    begun = [ledger.append_intent(intent(number)).result(60) for number in range(30)]
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize))
    refused = ledger.append_outcome(outcome(begun[0].index, response_text=PROMPT * 20)).exception(60)
    assert isinstance(refused, LedgerUnavailable)
    assert "disk is full" in refused.message
    assert "nearly full" in fill(ledger)[1] or "disk is full" in fill(ledger)[1]
    ballast.unlink()
    end(ledger, begun[1:])
    again = ledger.append_intent(intent(99)).result(60)
    end(ledger, [again])
    ledger.close()
    assert_sound(small_disk, 31)


def test_a_file_that_may_not_grow_is_an_error_and_service_resumes(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    first = ledger.append_intent(intent(0)).result(60)
    with largest_file(max(path.stat().st_size for path in tmp_path.iterdir()) + 40_000):
        begun, words = fill(ledger)
        assert "disk" in words
        refused = ledger.append_outcome(outcome(first.index, response_text=PROMPT * 20)).exception(60)
        assert isinstance(refused, LedgerUnavailable)
    end(ledger, begun)
    end(ledger, [ledger.append_intent(intent(99)).result(60)])
    ledger.close()
    assert_sound(tmp_path, len(begun) + 2)
