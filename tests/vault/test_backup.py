"""Backup and restore: a copy is good before it is called one, and nothing that was there is lost."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from minivault.errors import InvalidRequest, LedgerUnavailable, VaultCorrupt
from minivault.vault.backup import back_up, restore
from minivault.vault.findings import Verified
from minivault.vault.head import HeadPaths
from minivault.vault.reader import Reader
from tests.vault.samples import open_ledger, record_calls


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Three calls, and a signed head over them."""
    ledger = open_ledger(tmp_path / "data", head_interval=3600)
    record_calls(ledger, 3)
    ledger.close()
    return tmp_path / "data" / "vault.db"


def record_more(vault: Path, calls: int = 2) -> None:
    ledger = open_ledger(vault.parent, head_interval=3600)
    record_calls(ledger, calls)
    ledger.close()


def prompts(path: Path) -> list[str | None]:
    reader = Reader.open(path)
    try:
        return [call.prompt for call in reader.list(oldest_first=True).calls]
    finally:
        reader.close()


def test_a_backup_is_one_file_for_its_owner(vault: Path, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "vault.db"
    target.parent.mkdir()
    report = back_up(vault, target)
    assert (report.ok, report.records, report.completeness) == (True, 6, "attested")
    assert [path.name for path in target.parent.iterdir()] == ["vault.db"]
    assert target.stat().st_mode & 0o077 == 0
    assert prompts(target) == prompts(vault)


def test_a_backup_can_be_made_while_records_come_in(vault: Path, tmp_path: Path) -> None:
    ledger = open_ledger(vault.parent, head_interval=3600)
    record_calls(ledger, 1)

    def record_one(_done: int, _size: int) -> None:
        record_calls(ledger, 1)

    report = back_up(vault, tmp_path / "copy.db", record_one)
    ledger.close()
    assert (report.ok, report.records) == (True, 8)


def test_a_former_backup_is_replaced_and_no_other_file(vault: Path, tmp_path: Path) -> None:
    back_up(vault, tmp_path / "copy.db")
    record_more(vault)
    assert back_up(vault, tmp_path / "copy.db").records == 10
    (tmp_path / "letter.txt").write_text("dear")
    for target in (tmp_path / "letter.txt", vault):
        with pytest.raises(InvalidRequest):
            back_up(vault, target)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_damaged_vault_gives_no_backup(vault: Path, tmp_path: Path) -> None:
    db = apsw.Connection(str(vault))
    db.execute("UPDATE contents SET data = x'00' WHERE leaf_index = 2 AND kind = 'prompt_text'")
    db.close()
    with pytest.raises(VaultCorrupt, match="record 2"):
        back_up(vault, tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_becomes_a_vault_elsewhere_and_goes_on(vault: Path, tmp_path: Path) -> None:
    back_up(vault, tmp_path / "copy.db")
    other = tmp_path / "other" / "vault.db"
    restored = restore(tmp_path / "copy.db", other, against=HeadPaths(vault).load_head())
    assert (restored.report.completeness, restored.aside, restored.lost) == ("attested", (), 0)
    record_more(other)
    assert len(prompts(other)) == 5


def test_a_vault_that_is_there_is_put_aside_only_on_demand(vault: Path, tmp_path: Path) -> None:
    back_up(vault, tmp_path / "copy.db")
    record_more(vault)
    with pytest.raises(InvalidRequest, match="already"):
        restore(tmp_path / "copy.db", vault)
    Verified.path(vault).write_text(Verified(10, bytes(32)).text())
    restored = restore(tmp_path / "copy.db", vault, replace=True)
    assert Verified.load(vault) is None
    assert (len(prompts(vault)), restored.lost) == (3, 4)
    assert len(prompts(vault.with_name("vault.db.before-1"))) == 5
    assert vault.with_name("vault.head.before-1") in restored.aside
    record_more(vault, 1)
    assert len(prompts(vault)) == 4


def test_a_backup_that_was_tampered_with_is_not_restored(vault: Path, tmp_path: Path) -> None:
    back_up(vault, tmp_path / "copy.db")
    db = apsw.Connection(str(tmp_path / "copy.db"))
    db.execute("UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 3")
    db.close()
    with pytest.raises(VaultCorrupt, match="record 3"):
        restore(tmp_path / "copy.db", vault, replace=True)
    assert len(prompts(vault)) == 3
    assert not vault.with_name("vault.db.before-1").exists()


def test_another_vaults_backup_is_not_this_ones(vault: Path, tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "second")
    record_calls(ledger, 9, source="cli")
    ledger.close()
    back_up(tmp_path / "second" / "vault.db", tmp_path / "copy.db")
    with pytest.raises(VaultCorrupt, match="not those"):
        restore(tmp_path / "copy.db", vault, replace=True, against=HeadPaths(vault).load_head())
    with pytest.raises(VaultCorrupt, match="newest head of the vault that is here, so it is of another vault"):
        restore(tmp_path / "copy.db", vault, replace=True)


def test_a_vault_in_use_is_not_restored(vault: Path, tmp_path: Path) -> None:
    back_up(vault, tmp_path / "copy.db")
    ledger = open_ledger(vault.parent)
    with pytest.raises(LedgerUnavailable, match="another"):
        restore(tmp_path / "copy.db", vault, replace=True)
    ledger.close()


@pytest.mark.parametrize("text", [None, b"", b"no database" * 100])
def test_what_is_no_backup_is_not_restored(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "copy.db").write_bytes(text)
    with pytest.raises((InvalidRequest, VaultCorrupt)):
        restore(tmp_path / "copy.db", tmp_path / "data" / "vault.db")
    assert not (tmp_path / "data" / "vault.db").exists()


def test_copies_that_a_killed_process_left_are_deleted_and_nothing_else(vault: Path) -> None:
    left = [vault.with_name(f"vault.db.restored.part{end}") for end in ("", "-wal", "-journal")]
    left.append(vault.with_name("batches.db.recoded.part"))
    others = [vault.with_name("mine.restored.partial.txt"), vault.with_name("restored.part.notes")]
    for path in (*left, *others):
        path.write_bytes(b"x")
    (vault.parent / "folder.restored.part").mkdir()
    record_more(vault)
    assert [path.name for path in left if path.exists()] == []
    assert all(path.exists() for path in others)
