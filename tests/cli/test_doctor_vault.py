"""``minivault doctor`` finds the vaults on which no server starts, in the words in which a start refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.cli.examine_findings import Finding
from minivault.cli.examine_vault import examine_vault
from minivault.errors import MiniVaultError
from minivault.settings import load_settings
from minivault.vault.head import HeadKeeper
from tests.vault.samples import intent, open_ledger, outcome

SIGNED = {"head_interval": 3600.0}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """With a vault of two records, both covered by a signed head."""
    ledger = open_ledger(tmp_path, **SIGNED)
    begun = ledger.append_intent(intent()).result(10)
    ledger.append_outcome(outcome(begun.index)).result(10)
    ledger.close()
    return tmp_path


def findings(data_dir: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_vault(load_settings(data_dir=data_dir))}


def refusal(data_dir: Path) -> str:
    """What a start says."""
    with pytest.raises(MiniVaultError) as refused:
        open_ledger(data_dir, **SIGNED).close()
    return refused.value.message


def names(data_dir: Path) -> set[str]:
    return {path.name for path in data_dir.iterdir()}


def contents(data_dir: Path) -> dict[str, bytes]:
    """All but that of the file in which those who have a vault open share notes."""
    return {path.name: b"" if path.suffix == ".db-shm" else path.read_bytes() for path in data_dir.iterdir()}


def remove_vault(data_dir: Path) -> None:
    for path in data_dir.glob("vault.db*"):
        path.unlink()


def test_a_sound_vault_is_told_with_its_newest_head(data_dir: Path) -> None:
    found = findings(data_dir)
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert found["signed heads"].found == "the newest covers 2 records"


def test_a_folder_without_a_vault_is_left_without_one(tmp_path: Path) -> None:
    assert {finding.found for finding in findings(tmp_path).values()} == {"none yet"}
    assert names(tmp_path) == set()


def test_a_vault_that_is_gone_under_its_head_is_found(data_dir: Path) -> None:
    remove_vault(data_dir)
    before = names(data_dir)
    found = findings(data_dir)["file"]
    assert names(data_dir) == before
    assert (found.verdict, found.found) == ("fail", refusal(data_dir))
    assert "it was set back" in found.found
    assert "put vault.db and vault.db-wal back, both from one copy; or restore" in found.advice


def test_a_new_vault_under_an_old_head_is_found(data_dir: Path) -> None:
    (data_dir / "other").mkdir()
    open_ledger(data_dir / "other").close()
    remove_vault(data_dir)
    for path in (data_dir / "other").glob("vault.db*"):
        path.rename(data_dir / path.name)
    found = findings(data_dir)["file"]
    assert (found.verdict, found.found) == ("fail", refusal(data_dir))
    assert found.advice.startswith("Move vault.db, vault.db-wal and vault.db-shm away")


def test_a_vault_of_another_time_is_found(data_dir: Path) -> None:
    other = data_dir / "other"
    other.mkdir()
    ledger = open_ledger(other)
    for number in range(3):
        ledger.append_intent(intent(number)).result(10)
    ledger.close()
    remove_vault(data_dir)
    (other / "vault.db").rename(data_dir / "vault.db")
    found = findings(data_dir)["file"]
    assert (found.verdict, found.found) == ("fail", refusal(data_dir))
    assert "are not those whose head was signed" in found.found


@pytest.mark.parametrize("name", ["vault.key", "vault.pub"])
def test_a_key_that_is_gone_is_found_and_not_made_anew(data_dir: Path, name: str) -> None:
    (data_dir / name).unlink()
    found = findings(data_dir)
    assert not (data_dir / name).exists()
    assert (found["signed heads"].verdict, found["signed heads"].found) == ("fail", refusal(data_dir))
    assert "is gone" in found["signed heads"].found
    assert found["signed heads"].advice.startswith("Bring vault.key, vault.pub and vault.head back")
    assert found["records"].verdict == "ok"


def test_a_key_of_another_vault_is_found(data_dir: Path) -> None:
    (data_dir / "other").mkdir()
    key = HeadKeeper(data_dir / "other" / "vault.db").paths.private_key
    key.rename(data_dir / "vault.key")
    found = findings(data_dir)["signed heads"]
    assert (found.verdict, found.found) == ("fail", refusal(data_dir))
    assert "do not belong together" in found.found


def test_a_key_with_one_byte_changed_is_found(data_dir: Path) -> None:
    key = data_dir / "vault.key"
    text = bytearray(key.read_bytes())
    text[60] ^= 1
    key.write_bytes(text)
    found = findings(data_dir)["signed heads"]
    assert (found.verdict, found.found) == ("fail", refusal(data_dir))


def test_a_head_that_was_changed_is_found(data_dir: Path) -> None:
    head = data_dir / "vault.head"
    head.write_text(head.read_text("utf-8").replace("\n2\n", "\n1\n"), encoding="utf-8")
    found = findings(data_dir)
    assert (found["signed heads"].verdict, found["signed heads"].found) == ("fail", refusal(data_dir))
    assert found["records"].verdict == "ok"


def test_a_restore_that_was_interrupted_is_told_as_one(data_dir: Path) -> None:
    (data_dir / "vault.db.moves").write_text('[["a", "b"]]', encoding="ascii")
    found = findings(data_dir)["file"]
    assert (found.verdict, found.advice) == ("warn", "Nothing is lost: the next start does it.")


def test_looking_changes_no_file(data_dir: Path) -> None:
    before = contents(data_dir)
    findings(data_dir)
    assert contents(data_dir) == before
