"""A change of the vault's key, killed before each thing that it does to a file: vault and batches bear one key."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from minivault.batches.database import open_database, recoded_copy
from minivault.errors import ConfigError, LedgerUnavailable, VaultCorrupt
from minivault.vault.cipher import VaultKey
from minivault.vault.moving import list_of
from minivault.vault.reader import Reader
from minivault.vault.recode import Beside, recode
from minivault.vault.verify import verify
from tests.faults.killing import killed_at
from tests.vault.samples import open_ledger, record_calls

ONE, TWO = VaultKey(bytes(range(32))), VaultKey(bytes(32))


def made(folder: Path, key: VaultKey | None) -> Path:
    """A vault of two calls, and a file of batches with one mark."""
    ledger = open_ledger(folder, key=key, head_interval=3600)
    record_calls(ledger, 2)
    ledger.close()
    db = open_database(folder / "batches.db", key)
    db.execute("INSERT INTO marks VALUES ('made', '7')")
    db.close()
    return folder


def change(folder: Path, old: VaultKey | None, new: VaultKey | None) -> None:
    batches = folder / "batches.db"
    recode(folder / "vault.db", old, new, beside=Beside(batches, partial(recoded_copy, batches)))


def opens(folder: Path, key: VaultKey | None) -> bool:
    """Whether this key opens both, whole; a key that opens one of them alone fails the test."""
    found = []
    reader = Reader.open(folder / "vault.db", key)
    try:
        found.append(len(list(reader.walk())) == 2 and verify(reader).ok)
    except (ConfigError, VaultCorrupt):
        found.append(False)
    finally:
        reader.close()
    try:
        # why a plain file with a key is not opened: that would encrypt it
        plain = (folder / "batches.db").read_bytes()[:6] == b"SQLite"
        if plain != (key is None):
            raise ConfigError("another key")
        db = open_database(folder / "batches.db", key)
        found.append(db.execute("SELECT value FROM marks").get == "7")
        db.close()
    except ConfigError:
        found.append(False)
    assert found[0] == found[1]
    return all(found)


@pytest.mark.parametrize(("old", "new"), [(None, ONE), (ONE, TWO), (ONE, None)], ids=["encrypt", "rekey", "decrypt"])
def test_a_change_of_key_killed_at_any_step_leaves_one_key_to_both_files(
    tmp_path: Path, old: VaultKey | None, new: VaultKey | None
) -> None:
    made(tmp_path / "before", old)
    step, interrupted, changed = 0, 0, set()
    killed = True
    while killed:
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        killed = killed_at(step, folder, partial(change, folder, old, new))
        if list_of(folder / "vault.db").exists():
            interrupted += 1
            with pytest.raises(LedgerUnavailable, match="interrupted"):
                Reader.open(folder / "vault.db", old).list()
            with pytest.raises((ConfigError, VaultCorrupt)):  # what finishes it finds the other key in place
                open_ledger(folder, key=old, head_interval=3600)
        is_new = opens(folder, new)
        assert is_new != opens(folder, old), f"killed at {step}"
        open_ledger(folder, key=new if is_new else old, head_interval=3600).close()
        assert not list(folder.glob("*ed.part*")), f"killed at {step}"
        changed.add(is_new)
        step += 1
    assert interrupted > 3
    assert changed == {False, True}


def test_a_change_of_key_that_was_interrupted_before_this_is_gone_on_with(tmp_path: Path) -> None:
    folder = made(tmp_path / "here", None)
    assert recoded_copy(folder / "batches.db", folder / "copy", None, ONE)
    (folder / "copy").replace(folder / "batches.db")
    change(folder, None, ONE)
    assert opens(folder, ONE)
