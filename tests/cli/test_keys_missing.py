"""Records that name API keys, in a folder without keys: said at the start of a server, and by a restore."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from minivault.cli.keys_missing import warn_of_missing_keys
from minivault.cli.serve import announce
from minivault.cli.vault_backup import backup, restore
from minivault.settings import Settings
from tests.vault.samples import open_ledger, record_calls


def recorded(folder: Path, api_key_id: str | None) -> Path:
    ledger = open_ledger(folder)
    record_calls(ledger, 1)
    record_calls(ledger, 1, api_key_id=api_key_id)
    ledger.close()
    return folder


def told(capsys: pytest.CaptureFixture[str], folder: Path, require_keys: bool = False) -> str:
    warn_of_missing_keys(Settings(data_dir=folder, require_keys=require_keys))
    return capsys.readouterr().err


def test_records_of_keys_without_the_keys_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, recorded(tmp_path, "alice"))
    assert "made with API keys, and there is no keys.json" in said
    assert "reads everybody's records" in said
    assert f"keys create NAME --role admin --data-dir {tmp_path}" in said


def test_where_keys_are_required_nobody_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "answers nobody" in told(capsys, recorded(tmp_path, "alice"), require_keys=True)


def test_with_keys_or_without_such_records_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, recorded(tmp_path, None)) == ""
    keyed = recorded(tmp_path / "keyed", "alice")
    (keyed / "keys.json").write_text("{}")
    assert told(capsys, keyed) == ""


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_a_vault_that_cannot_be_read_is_not_its_business(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "vault.db").write_bytes(content)
    assert told(capsys, tmp_path) == ""


def test_the_start_of_a_server_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce(Settings(data_dir=recorded(tmp_path, "alice")), "http://127.0.0.1:1", "http://127.0.0.1:1")
    assert "there is no keys.json" in capsys.readouterr().err


def test_a_restore_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup(tmp_path / "copy.db", data_dir=recorded(tmp_path / "own", "alice"))
    assert "copy keys.json" in capsys.readouterr().err
    restore(tmp_path / "copy.db", data_dir=tmp_path / "other")
    assert "there is no keys.json" in capsys.readouterr().err


def test_the_question_is_one_look_at_an_index(tmp_path: Path) -> None:
    db = apsw.Connection(str(recorded(tmp_path, "alice") / "vault.db"))
    sql = "EXPLAIN QUERY PLAN SELECT 1 FROM calls WHERE api_key_id IS NOT NULL LIMIT 1"
    assert "calls_api_key" in str(db.execute(sql).fetchall())
    db.close()
