"""Import: what can be read comes in once, what cannot is named by its line, and nothing pretends to be attested."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from minivault.errors import InvalidRequest
from minivault.vault.importing import ImportReport, import_calls
from minivault.vault.old_calls import OldCall, Unreadable, read_old_calls
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.vault.samples import open_ledger, record_calls

GOOD = {
    "timestamp": "2024-05-01T12:00:00Z",
    "id": "old-1",
    "prompt": "grüße",
    "response": "hallo",
    "mode": "stream",
    "model": "tiny",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    "processing_time_ms": 1.5,
    "finish_reason": "length",
}


def bring(folder: Path, file: Path) -> ImportReport:
    ledger, reader = open_ledger(folder / "data", mirror_dir=folder / "logs"), Reader.open(folder / "data" / "vault.db")
    try:
        return import_calls(ledger, reader, read_old_calls(file))
    finally:
        reader.close()
        ledger.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tmp_path / "old.jsonl"


def test_a_call_comes_in_whole_and_marked(tmp_path: Path, old: Path) -> None:
    old.write_text(json.dumps(GOOD) + "\n")
    assert bring(tmp_path, old).imported == 1
    reader = Reader.open(tmp_path / "data" / "vault.db")
    detail = reader.get(0)
    assert (detail.call.prompt, detail.call.response, detail.call.model) == ("grüße", "hallo", "tiny")
    assert (detail.call.surface, detail.call.finish_reason, detail.call.mode) == ("import", "imported", "stream")
    assert (detail.call.prompt_tokens, detail.call.completion_tokens, detail.call.duration_ns) == (3, 2, 1_500_000)
    assert detail.intent["parameters"]["imported"] == {
        "attested": False, "id": "old-1", "timestamp": "2024-05-01T12:00:00Z", "finish_reason": "length", "place": 1,
    }  # fmt: skip
    assert detail.intent["pin"]["exact"] is False
    assert verify(reader).ok
    reader.close()


def test_broken_and_mixed_lines_are_named_and_the_rest_comes_in(tmp_path: Path, old: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        b"",
        b'{"prompt": "half',
        b"2024-05-01 INFO started",
        b"[1, 2]",
        b'{"prompt": 7, "response": "x"}',
        b'{"prompt": "x"}',
        b'{"prompt": "\xff", "response": "x"}',
        b'{"prompt": "\\ud800", "response": "x"}',
        b'{"input": "other", "output": "names"}',
    ]
    old.write_bytes(b"\r\n".join(lines))
    report = bring(tmp_path, old)
    assert report.imported == 2
    assert [found.place for found in report.unreadable] == [3, 4, 5, 6, 7, 8, 9]
    assert {found.reason for found in report.unreadable} == {
        "not JSON", "JSON, but no object", "has no prompt that is text", "has no response that is text", "not UTF-8",
        "holds text that is not Unicode",
    }  # fmt: skip


def test_the_same_file_twice_adds_nothing_and_equal_lines_stay_two(tmp_path: Path, old: Path) -> None:
    old.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD) + "\n")
    assert bring(tmp_path, old).imported == 2
    again = bring(tmp_path, old)
    assert (again.imported, again.known) == (0, 2)


def test_a_table_of_interactions_comes_in(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    db = apsw.Connection(str(file))
    db.execute("CREATE TABLE interactions (id INTEGER PRIMARY KEY, prompt TEXT, response TEXT, timestamp TEXT)")
    db.execute("INSERT INTO interactions VALUES (1, 'a', 'b', '2024'), (2, NULL, 'c', '2024'), (3, 'd', 'e', NULL)")
    db.close()
    report = bring(tmp_path, file)
    assert (report.imported, [found.place for found in report.unreadable]) == (2, [2])
    reader = Reader.open(tmp_path / "data" / "vault.db")
    assert [call.prompt for call in reader.list(oldest_first=True).calls] == ["a", "d"]
    reader.close()


def test_a_vault_can_be_read_like_any_such_table(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 2)
    ledger.close()
    found = list(read_old_calls(tmp_path / "vault.db"))
    assert [call.prompt for call in found if isinstance(call, OldCall)] == ["question 0", "question 1"]


@pytest.mark.parametrize("sql", ["CREATE TABLE other (x)", "CREATE TABLE interactions (x)"])
def test_a_database_without_such_a_table_is_refused(tmp_path: Path, sql: str) -> None:
    db = apsw.Connection(str(tmp_path / "old.db"))
    db.execute(sql)
    db.close()
    with pytest.raises(InvalidRequest, match="interactions"):
        list(read_old_calls(tmp_path / "old.db"))


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(read_old_calls(tmp_path / "old.db"))


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_line_that_is_too_long_is_named_and_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("minivault.vault.old_calls.MAX_LINE_BYTES", 200)
    monkeypatch.setattr("minivault.vault.old_calls._PIECE", 64)
    good = json.dumps({"prompt": "a", "response": "b"})
    (tmp_path / "old.jsonl").write_bytes(f"{good}\n{'x' * 10_000}\n{good}{end}".encode())
    found = list(read_old_calls(tmp_path / "old.jsonl"))
    assert [(call.place, isinstance(call, OldCall)) for call in found] == [(1, True), (2, False), (3, True)]
    assert isinstance(found[1], Unreadable)
    assert found[1].reason == "longer than 200 bytes"
