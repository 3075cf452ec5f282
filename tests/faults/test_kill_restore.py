"""A restore that is killed before each thing that it does to a file: one vault or the other is in place, whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from minivault.errors import InvalidRequest, LedgerUnavailable
from minivault.vault.backup import back_up, restore
from minivault.vault.moving import list_of
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.faults.killing import killed_at
from tests.vault.samples import open_ledger, record_calls

OLD, BACKED_UP = 5, 3


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of three calls, and a vault of five as a killed server leaves it: two of them in its write-ahead log."""
    folder = tmp_path_factory.mktemp("before")
    ledger = open_ledger(folder / "data", head_interval=3600)
    record_calls(ledger, BACKED_UP)
    back_up(folder / "data" / "vault.db", folder / "copy.db")
    record_calls(ledger, OLD - BACKED_UP)
    ledger.sign_head().result(30)
    shutil.copytree(folder / "data", folder / "killed")
    ledger.close()
    assert (folder / "killed" / "vault.db-wal").stat().st_size
    return folder


def killed_restore(step: int, copy: Path, vault: Path) -> bool:
    """Restore in a process that dies before the deed of this number; whether it did."""
    return killed_at(step, vault.parent, partial(restore, copy, vault, replace=True))


def calls_in(path: Path) -> int:
    """In a vault that verifies."""
    reader = Reader.open(path)
    try:
        report = verify(reader)
        assert report.findings == ()
        return report.calls
    finally:
        reader.close()


def start(vault: Path, _copy: Path) -> int:
    open_ledger(vault.parent, head_interval=3600).close()
    return calls_in(vault)


def restore_again(vault: Path, copy: Path) -> int:
    restore(copy, vault, replace=True)
    open_ledger(vault.parent, head_interval=3600).close()
    return calls_in(vault)


@pytest.mark.parametrize("go_on", [start, restore_again])
def test_a_restore_killed_at_any_step_leaves_one_vault_or_the_other(
    before: Path, tmp_path: Path, go_on: Callable[[Path, Path], int]
) -> None:
    step, interrupted = 0, 0
    found = set()
    killed = True
    while killed:
        vault = tmp_path / str(step) / "vault.db"
        shutil.copytree(before / "killed", vault.parent)
        killed = killed_restore(step, before / "copy.db", vault)
        if list_of(vault).exists():
            interrupted += 1
            with pytest.raises(LedgerUnavailable, match="interrupted"):
                calls_in(vault)
        else:
            # As it stands, before anybody has seen to it.
            assert calls_in(vault) in (OLD, BACKED_UP), f"killed at {step}"
        found.add(calls := go_on(vault, before / "copy.db"))
        put_aside = [path for path in vault.parent.glob("vault.db.before-*") if path.suffix[-1].isdecimal()]
        assert calls == OLD or OLD in {calls_in(path) for path in put_aside}, f"killed at {step}"
        assert not list_of(vault).exists()
        step += 1
    assert interrupted > 5
    assert found == ({OLD, BACKED_UP} if go_on is start else {BACKED_UP})


def test_a_restore_over_an_interrupted_one_says_that_it_finished_it(before: Path, tmp_path: Path) -> None:
    step = 0
    vault = tmp_path / "0" / "vault.db"
    while not list_of(vault).exists():
        step += 1
        vault = tmp_path / str(step) / "vault.db"
        shutil.copytree(before / "killed", vault.parent)
        killed_restore(step, before / "copy.db", vault)
    with pytest.raises(InvalidRequest, match=r"interrupted is finished now.*there is a vault already"):
        restore(before / "copy.db", vault)
    assert calls_in(vault) == BACKED_UP
