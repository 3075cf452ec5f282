"""An encrypted vault: nothing of it lies in plain, and everything that works on a vault works on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.errors import ConfigError, VaultCorrupt
from minivault.settings import load_settings
from minivault.vault.backup import back_up, restore
from minivault.vault.cipher import VaultKey
from minivault.vault.reader import Reader
from minivault.vault.recode import recode
from minivault.vault.verify import verify
from tests.vault.samples import open_ledger, record_calls

KEY = VaultKey(bytes(range(32)))
OTHER = VaultKey(bytes(32))


def made(folder: Path, key: VaultKey | None, calls: int = 3) -> Path:
    ledger = open_ledger(folder, key=key, head_interval=60.0)
    record_calls(ledger, calls)
    ledger.close()
    return folder / "vault.db"


def prompts(vault: Path, key: VaultKey | None) -> list[str | None]:
    reader = Reader.open(vault, key)
    try:
        assert verify(reader).ok
        return [call.prompt for call in reader.walk()]
    finally:
        reader.close()


def in_plain(folder: Path) -> list[str]:
    """Files that show what a call said."""
    return [path.name for path in folder.iterdir() if b"question" in path.read_bytes()]


def test_nothing_lies_in_plain_while_it_is_written(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, key=KEY)
    try:
        record_calls(ledger, 3)
        assert in_plain(tmp_path) == []
    finally:
        ledger.close()


def test_without_a_key_it_does_lie_in_plain(tmp_path: Path) -> None:
    made(tmp_path, None)
    assert in_plain(tmp_path) == ["vault.db"]


def test_it_is_read_and_verified_with_its_key(tmp_path: Path) -> None:
    assert prompts(made(tmp_path, KEY), KEY) == ["question 0", "question 1", "question 2"]


def test_recording_goes_on_after_a_restart(tmp_path: Path) -> None:
    made(tmp_path, KEY, 1)
    assert len(prompts(made(tmp_path, KEY, 1), KEY)) == 2


@pytest.mark.parametrize(
    ("key", "said"), [(OTHER, "the key in vault_key_file does not open"), (None, "vault_key_file names no key")]
)
def test_another_key_or_none_is_told(tmp_path: Path, key: VaultKey | None, said: str) -> None:
    vault = made(tmp_path, KEY)
    with pytest.raises(VaultCorrupt, match=said):
        open_ledger(tmp_path, key=key)
    with pytest.raises(VaultCorrupt, match=said):
        Reader.open(vault, key).list()


def test_a_key_for_a_plain_vault_is_refused(tmp_path: Path) -> None:
    vault = made(tmp_path, None)
    with pytest.raises(ConfigError, match="not encrypted"):
        open_ledger(tmp_path, key=KEY)
    with pytest.raises(ConfigError, match="not encrypted"):
        Reader.open(vault, KEY).list()


def test_a_sqlite_without_ciphers_writes_nothing_in_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("apsw.mc_version")
    with pytest.raises(ConfigError, match="cannot encrypt"):
        open_ledger(tmp_path, key=KEY)


def test_a_changed_page_does_not_read(tmp_path: Path) -> None:
    vault = made(tmp_path, KEY)
    data = bytearray(vault.read_bytes())
    data[3 * 4096 + 100] ^= 1
    vault.write_bytes(data)
    assert not verify(Reader.open(vault, KEY)).ok


def test_a_backup_stays_encrypted_and_comes_back(tmp_path: Path) -> None:
    vault = made(tmp_path / "here", KEY)
    (tmp_path / "there").mkdir()
    back_up(vault, tmp_path / "there" / "copy.db", key=KEY)
    assert in_plain(tmp_path / "there") == []
    restore(tmp_path / "there" / "copy.db", tmp_path / "new" / "vault.db", key=KEY)
    assert len(prompts(tmp_path / "new" / "vault.db", KEY)) == 3


@pytest.mark.parametrize(("old", "new"), [(None, KEY), (KEY, OTHER), (KEY, None)], ids=["encrypt", "rekey", "decrypt"])
def test_a_vault_gets_another_key(tmp_path: Path, old: VaultKey | None, new: VaultKey | None) -> None:
    vault = made(tmp_path, old)
    recode(vault, old, new)
    assert len(prompts(vault, new)) == 3
    assert bool(in_plain(tmp_path)) == (new is None)
    assert len(prompts(made(tmp_path, new), new)) == 6  # its heads go on


def test_a_key_file_is_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    key = VaultKey.create(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert VaultKey.load(tmp_path / "key") == key


@pytest.mark.parametrize("text", ["", "12", "x" * 64, "-----BEGIN PRIVATE KEY-----"])
def test_a_file_without_a_key_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError, match="64 hex digits"):
        VaultKey.load(tmp_path / "key")


def test_a_missing_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vault_key_file cannot be read"):
        VaultKey.load(tmp_path / "key")


def test_a_key_does_not_show_itself() -> None:
    assert "0001" not in repr(KEY) + str(KEY) + f"{KEY}"


def test_an_encrypted_vault_has_no_mirror(tmp_path: Path) -> None:
    assert load_settings(data_dir=tmp_path, vault_key_file=tmp_path / "key").mirror_dir is None


def test_a_mirror_beside_an_encrypted_vault_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        load_settings(data_dir=tmp_path, vault_key_file=tmp_path / "key", mirror=True)
