"""Where it breaks x how it breaks: an error at every single write and sync of a fixed script, then a power loss.

After each row, whatever had a receipt is on what a power loss would leave, the ledger works again, and the vault
verifies. The controls show that the disk of these tests does lose what was not synced.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from minivault.errors import LedgerUnavailable
from minivault.vault.batch import Batch
from minivault.vault.database import Writer
from minivault.vault.ledger import Ledger
from minivault.vault.merkle import Tree
from minivault.vault.reader import Reader
from minivault.vault.record import Receipt
from minivault.vault.verify import verify
from tests.faults.disk import Disk
from tests.vault.samples import intent, open_ledger, outcome

CALLS = 2


def open_on(disk: Disk, folder: Path) -> Ledger:
    return open_ledger(folder, open_writer=partial(Writer.open, vfs=disk.name), receipt_deadline=60)


def record(ledger: Ledger, first: int) -> list[tuple[str, Receipt]]:
    """The script: three calls. Gives the receipts that were given; failures are what the tests are about."""
    receipts = []
    for number in range(first, first + CALLS):
        with suppress(LedgerUnavailable):
            begun = ledger.append_intent(intent(number)).result(60)
            receipts.append((f"gen-{number}", begun))
            receipts.append((f"gen-{number}", ledger.append_outcome(outcome(begun.index)).result(60)))
    return receipts


def assert_kept(path: Path, receipts: list[tuple[str, Receipt]]) -> None:
    reader = Reader.open(path)
    for request_id, receipt in receipts:
        detail = reader.get(receipt.index)
        assert detail.call.id == request_id
        assert receipt.leaf in (detail.intent_leaf, detail.outcome_leaf)
    assert verify(reader).findings == ()
    reader.close()


def operations_of_the_script(folder: Path) -> tuple[int, int]:
    """How many writes and syncs opening takes, and how many there are when the script has ended."""
    disk = Disk()
    ledger = open_on(disk, folder / "clean")
    opened = disk.operations
    assert len(record(ledger, 0)) == 2 * CALLS
    ended = disk.operations
    ledger.close()
    return opened, ended


@pytest.mark.parametrize(("full", "sticky"), [(False, False), (True, True)], ids=["EIO once", "ENOSPC until healed"])
def test_an_error_at_any_write_or_sync(tmp_path: Path, full: bool, sticky: bool) -> None:
    opened, ended = operations_of_the_script(tmp_path)
    failed = 0
    for fail_at in range(opened, ended):
        folder = tmp_path / str(fail_at)
        disk = Disk(fail_at=fail_at, full=full, sticky=sticky)
        ledger = open_on(disk, folder)
        receipts = record(ledger, 0)
        failed += len(receipts) < 2 * CALLS
        disk.heal()
        after = record(ledger, CALLS)
        assert len(after) == 2 * CALLS, "service resumes"
        assert_kept(disk.after_power_loss(folder / "power-loss"), receipts + after)
        ledger.close()
        assert_kept(folder / "vault.db", receipts + after)
        assert disk.failures, "the row has broken what it was to break"
    assert failed >= 2 * CALLS


def test_an_error_while_opening_is_an_error_and_the_next_opening_works(tmp_path: Path) -> None:
    opened, _ = operations_of_the_script(tmp_path)
    for fail_at in range(opened):
        folder = tmp_path / str(fail_at)
        disk = Disk(fail_at=fail_at)
        with suppress(LedgerUnavailable):
            open_on(disk, folder).close()
        disk.heal()
        ledger = open_on(disk, folder)
        assert len(record(ledger, 0)) == 2 * CALLS
        ledger.close()
        assert_kept(folder / "vault.db", [])


def test_power_loss_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    disk = Disk()
    ledger = open_on(disk, tmp_path / "vault")
    receipts: list[tuple[str, Receipt]] = []
    for number in range(20):
        receipts += record(ledger, number * CALLS)
        assert_kept(disk.after_power_loss(tmp_path / str(number)), receipts)
    ledger.close()
    assert_kept(disk.after_power_loss(tmp_path / "closed"), receipts)


class Careless(Writer):
    """The control: a writer that does not sync."""

    @classmethod
    def on(cls, disk: Disk, path: Path) -> Writer:
        writer = cls(Writer.open(path, vfs=disk.name).connection)
        writer.connection.pragma("synchronous", "OFF")
        return writer


def test_control_without_sync_a_power_loss_loses_receipts(tmp_path: Path) -> None:
    disk = Disk()
    ledger = open_ledger(tmp_path / "vault", open_writer=partial(Careless.on, disk))
    receipts = record(ledger, 0)
    path = disk.after_power_loss(tmp_path / "power-loss")
    ledger.close()
    assert len(receipts) == 2 * CALLS
    assert Reader.open(path).stats()["calls"] < CALLS


class Trusting(Writer):
    """The control: after a failed sync, a writer that goes on appending to the same log."""

    def reset_wal(self) -> None:
        """Left out."""


def loses_after_a_failed_sync(folder: Path, writer: Callable[[Path], Writer], disk: Disk) -> bool:
    ledger = open_ledger(folder, open_writer=writer)
    receipts = record(ledger, 0)
    disk.heal()
    receipts += record(ledger, CALLS)
    path = disk.after_power_loss(folder / "power-loss")
    ledger.close()
    reader = Reader.open(path)
    kept = {call.id for call in reader.walk()}
    reader.close()
    return not {request_id for request_id, _ in receipts} <= kept


def test_control_without_emptying_the_log_a_failed_sync_loses_later_receipts(tmp_path: Path) -> None:
    opened, ended = operations_of_the_script(tmp_path)

    def trusting(disk: Disk, path: Path) -> Writer:
        return Trusting(Writer.open(path, vfs=disk.name).connection)

    def loses(fail_at: int) -> bool:
        disk = Disk(fail_at=fail_at)
        return loses_after_a_failed_sync(tmp_path / str(fail_at), partial(trusting, disk), disk)

    assert any(loses(fail_at) for fail_at in range(opened, ended))


class Hasty(Writer):
    """The control: a writer that says yes before it has tried."""

    def commit(self, batch: Batch, tree: Tree) -> None:
        with suppress(Exception):
            super().commit(batch, tree)


def test_control_a_writer_that_hides_errors_is_caught(tmp_path: Path) -> None:
    opened, _ = operations_of_the_script(tmp_path)
    disk = Disk(fail_at=opened, sticky=True)
    ledger = open_ledger(
        tmp_path / "vault", open_writer=lambda path: Hasty(Writer.open(path, vfs=disk.name).connection)
    )
    receipts = record(ledger, 0)
    assert receipts
    assert Reader.open(tmp_path / "vault" / "vault.db").stats()["calls"] == 0
    disk.heal()
    ledger.close()
