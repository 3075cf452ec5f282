"""Power loss on a real file system, ext4 on a loop device, while calls are recorded; with a control that must lose.

Whatever had a receipt when the power went is there after the next mount, and the vault verifies. ``kill -9`` alone
would not tell: it leaves the page cache.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivault.errors import LedgerUnavailable, MiniVaultError
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.faults.real_disk import RealDisk, mounted
from tests.vault.samples import intent, open_ledger, outcome, record_calls

Receipts = list[tuple[str, str, int, str]]
"""Word, id, index and leaf of each."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RealDisk]:
    with mounted(tmp_path) as disk:
        yield disk


def receipts_until_the_power_goes(disk: RealDisk, calls: int, *options: str) -> Receipts:
    """Record calls on the disk, and cut its power once so many have ended; the receipts that were given by then."""
    words = [sys.executable, "-m", "tests.faults.appender", str(disk.folder / "data"), "4", *options]
    found: Receipts = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        ended = 0
        for line in process.stdout:
            word, *rest = line.split()
            if word in ("begun", "ended"):
                found.append((word, rest[0], int(rest[1]), rest[2]))
                ended += word == "ended"
            if ended == calls:
                break
        disk.lose_power()
        process.kill()
    return found


def kept(folder: Path, receipts: Receipts) -> int:
    """How many of the receipts the vault still honours."""
    reader = Reader.open(folder / "vault.db")
    found = 0
    for word, request_id, index, leaf in receipts:
        try:
            detail = reader.get(index)
        except MiniVaultError:
            continue
        found += (detail.call.id, leaf) == (
            request_id,
            detail.intent_leaf if word == "begun" else detail.outcome_leaf,
        )
    reader.close()
    return found


@pytest.mark.parametrize("calls", [1, 7, 60])
def test_what_had_a_receipt_outlives_a_power_loss(disk: RealDisk, calls: int) -> None:
    receipts = receipts_until_the_power_goes(disk, calls)
    disk.restart()
    folder = disk.folder / "data"
    assert kept(folder, receipts) == len(receipts)
    ledger = Ledger.open(folder / "vault.db", mirror_dir=folder / "logs")
    record_calls(ledger, 3)
    ledger.close()
    reader = Reader.open(folder / "vault.db")
    report = verify(reader)
    reader.close()
    assert (report.findings, report.open_calls) == ((), 0)


def test_one_vault_outlives_one_power_loss_after_the_other(disk: RealDisk) -> None:
    receipts: Receipts = []
    for _ in range(3):
        receipts += receipts_until_the_power_goes(disk, 5)
        disk.restart()
        assert kept(disk.folder / "data", receipts) == len(receipts)


def test_control_without_sync_a_power_loss_loses_receipts(disk: RealDisk) -> None:
    receipts = receipts_until_the_power_goes(disk, 60, "--no-sync")
    disk.restart()
    assert kept(disk.folder / "data", receipts) < len(receipts), "this disk loses nothing: the tests prove nothing"


def test_a_file_system_that_falls_back_to_read_only_refuses_calls_and_loses_none(disk: RealDisk) -> None:
    ledger = open_ledger(disk.folder / "data")
    before = record_calls(ledger, 3)
    begun = ledger.append_intent(intent(4)).result(30)
    disk.break_down()
    for refused in (ledger.append_intent(intent(5)), ledger.append_outcome(outcome(begun.index))):
        with pytest.raises(LedgerUnavailable):
            refused.result(30)
    assert not ledger.status().writable
    ledger.close()
    disk.restart()
    ledger = open_ledger(disk.folder / "data")
    reader = Reader.open(disk.folder / "data" / "vault.db")
    assert [reader.get(index).call.finish_reason for index in [*before, begun.index]] == ["stop"] * 3 + ["interrupted"]
    record_calls(ledger, 1)
    ledger.close()
    assert verify(reader).findings == ()
    reader.close()
