"""The vault's file: how it is opened, brought up to date, locked, and refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from minivault.errors import LedgerUnavailable, VaultCorrupt
from minivault.vault.database import Writer, open_reader
from minivault.vault.lock import WriterLock
from minivault.vault.migrations import MIGRATIONS
from minivault.vault.reader import Reader
from minivault.vault.record import seal_intent, seal_outcome
from minivault.vault.schema import migrate
from tests.vault.samples import counting_entropy, intent, open_ledger, outcome, record_calls


def raw(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path))


def test_durability_is_set_and_kept(tmp_path: Path) -> None:
    db = Writer.open(tmp_path / "vault.db").connection
    assert (db.pragma("journal_mode"), db.pragma("synchronous"), db.pragma("foreign_keys")) == ("wal", 2, 1)
    db.close()


def test_without_a_write_ahead_log_there_is_no_vault(tmp_path: Path) -> None:
    # This way of locking has no shared memory, like some network shares.
    with pytest.raises(LedgerUnavailable, match="journal_mode"):
        Writer.open(tmp_path / "vault.db", vfs="unix-dotfile")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    ledger = open_ledger(folder, mirror_dir=folder / "logs")
    record_calls(ledger, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    ledger.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


def fill_first_schema(path: Path) -> None:
    """A vault as the first version wrote it, with one call in it."""
    db = raw(path)
    migrate(db, MIGRATIONS[:1])
    entropy = counting_entropy()
    begun = seal_intent(intent(), index=0, time_ns=5, entropy=entropy)
    ended = seal_outcome(outcome(0), request_id="gen-1", store=True, index=1, time_ns=6, entropy=entropy)
    for record in (begun, ended):
        db.execute("INSERT INTO leaves VALUES (?, ?, ?)", (record.index, record.hash, record.data))
        for content in record.contents:
            db.execute(
                "INSERT INTO contents VALUES (?, ?, ?, ?)",
                (record.index, content.kind.value, content.salt, content.data),
            )
    db.execute(
        "INSERT INTO calls VALUES (0, 1, 'gen-1', 5, 'guide', 'native', 'http', NULL, 'full', 1, 3, 2, 'stop', 9)"
    )
    db.close()


def test_the_first_schema_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    fill_first_schema(path)
    db = raw(path)
    assert migrate(db) == len(MIGRATIONS) - 1
    db.close()
    assert [call.response for call in Reader.open(path).search("question").calls] == ["answer to 0"]


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    fill_first_schema(path)
    db = raw(path)
    migrate(db)
    before = list(db.execute("SELECT name, sql FROM sqlite_schema"))
    assert migrate(db) == 0
    assert list(db.execute("SELECT name, sql FROM sqlite_schema")) == before
    db.close()


def test_a_migration_that_fails_leaves_the_former_schema(tmp_path: Path) -> None:
    db = raw(tmp_path / "vault.db")
    with pytest.raises(apsw.SQLError):
        migrate(db, (MIGRATIONS[0], "CREATE TABLE half (x); CREATE NONSENSE"))
    assert db.pragma("user_version") == 1
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").get == 0
    db.close()


@pytest.mark.parametrize("opened", [Writer.open, open_reader])
def test_a_newer_schema_is_refused(tmp_path: Path, opened: object) -> None:
    path = tmp_path / "vault.db"
    db = raw(path)
    migrate(db)
    db.pragma("user_version", len(MIGRATIONS) + 1)
    db.close()
    with pytest.raises(VaultCorrupt, match="newer"):
        opened(path)  # type: ignore[operator]


def test_an_older_schema_is_refused_to_readers_only(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    fill_first_schema(path)
    with pytest.raises(VaultCorrupt, match="older"):
        open_reader(path)
    Writer.open(path).close()
    open_reader(path).close()


@pytest.mark.parametrize("schema", ["CREATE TABLE other (x)", "CREATE TABLE other (x); PRAGMA user_version = 1"])
def test_another_programs_database_is_refused(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "vault.db"
    db = raw(path)
    db.execute(schema)
    db.close()
    with pytest.raises(VaultCorrupt, match="not a vault"):
        open_ledger(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vault.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(VaultCorrupt, match="damaged"):
        open_ledger(tmp_path)


def test_a_second_ledger_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(LedgerUnavailable, match="another MiniVault"):
        open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    open_ledger(tmp_path).close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "vault.db")
    program = "import sys, pathlib; from minivault.vault.lock import WriterLock; WriterLock(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path / "vault.db")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lock.release()
    assert "LedgerUnavailable" in ended.stderr


def test_the_interactions_view_is_there_for_any_sql_client(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    rows = list(raw(tmp_path / "vault.db").execute("SELECT id, prompt, response, timestamp FROM interactions"))
    assert rows == [("gen-0", "question 0", "answer to 0", "2023-11-14T22:13:20.123456789Z")]
