"""What is on record of one call, held against its own records."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from pyarrow import parquet

from minivault.vault.reader import ExportForm, Reader
from minivault.vault.record import Erasure
from tests.vault.samples import intent, open_ledger, record_calls


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Stored, not stored, erased, and open: intents 0, 2, 4 and 7."""
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    record_calls(ledger, 1, store=False)
    record_calls(ledger, 1)
    ledger.append_erasure(Erasure((4,), "request", "cli")).result(30)
    ledger.append_intent(intent(9)).result(30)
    ledger.close()
    return tmp_path / "vault.db"


def sound(vault: Path) -> list[int]:
    reader = Reader.open(vault)
    try:
        return [index for index in (0, 2, 4, 7) if reader.is_sound(index)]
    finally:
        reader.close()


ALTERED: list[tuple[str, set[int]]] = [
    ("SELECT 1", set()),
    ("UPDATE contents SET data = x'00' WHERE leaf_index = 0 AND kind = 'prompt_text'", {0}),
    ("UPDATE contents SET data = x'00' WHERE leaf_index = 1 AND kind = 'response_token_ids'", {0}),
    ("UPDATE contents SET salt = zeroblob(32) WHERE leaf_index = 1", {0}),
    ("UPDATE contents SET kind = 'other' WHERE leaf_index = 1 AND kind = 'response_text'", {0}),
    ("DELETE FROM contents WHERE leaf_index = 7", {7}),
    ("INSERT INTO contents VALUES (2, 'prompt_text', zeroblob(32), x'00')", {2}),
    ("INSERT INTO contents VALUES (4, 'prompt_text', zeroblob(32), x'00')", {4}),
    ("UPDATE leaves SET data = x'5b' WHERE leaf_index = 1", {0}),
    ("UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 7", {7}),
    ("UPDATE calls SET outcome_index = 6 WHERE intent_index = 7", {7}),
    ("DELETE FROM leaves WHERE leaf_index = 0", {0}),
    ("UPDATE calls SET api_key_id = 'mallory' WHERE intent_index IN (0, 7)", {0, 7}),
    ("UPDATE calls SET model = 'other', finish_reason = 'length' WHERE intent_index = 2", {2}),
    ("UPDATE calls SET completion_tokens = 9 WHERE intent_index IN (4, 7)", {4, 7}),
    ("UPDATE calls SET erased_index = 6 WHERE intent_index = 0; DELETE FROM contents WHERE leaf_index IN (0, 1)", {0}),
    (
        "DROP VIEW call_texts; CREATE VIEW call_texts (intent_index, prompt, response) AS"
        " SELECT intent_index, 'a lie', 'another' FROM calls",
        {0, 2, 4, 7},
    ),
]


def alter(vault: Path, sql: str) -> None:
    db = apsw.Connection(str(vault))
    db.execute(sql)
    db.close()


@pytest.mark.parametrize(("sql", "altered"), ALTERED)
def test_a_call_that_was_altered_is_not_sound(vault: Path, sql: str, altered: set[int]) -> None:
    alter(vault, sql)
    assert {0, 2, 4, 7} - {*sound(vault)} == altered


READERS: dict[str, Callable[[Reader], set[int]]] = {
    "list": lambda reader: {call.index for call in reader.list().calls if call.as_dict().get("altered")},
    "search": lambda reader: {call.index for call in reader.search("question").calls if call.altered},
    "log": lambda reader: {call.index for call in reader.finished_after(-1) if call.altered},
    "jsonl": lambda reader: {
        row["index"] for row in map(json.loads, reader.export(ExportForm.JSONL)) if row["altered"]
    },
    "csv": lambda reader: {int(row["index"]) for row in _csv_rows(reader) if row["altered"] == "True"},
    "parquet": lambda reader: {row["index"] for row in _parquet_rows(reader) if row["altered"]},
}


def _json_rows(reader: Reader) -> list[dict[str, Any]]:
    return [json.loads(line) for line in reader.export(ExportForm.JSONL)]


def _csv_rows(reader: Reader) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(reader.export(ExportForm.CSV)).decode())))


def _parquet_rows(reader: Reader) -> list[dict[str, Any]]:
    table = parquet.read_table(io.BytesIO(b"".join(reader.export(ExportForm.PARQUET))))
    return list(table.select(["index", "altered"]).to_pylist())


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("sql", "altered"), ALTERED)
def test_whoever_reads_is_told_which_calls_were_altered(vault: Path, read: str, sql: str, altered: set[int]) -> None:
    alter(vault, sql)
    there = {"search": {0}, "log": {0, 2, 4}}.get(read, {0, 2, 4, 7})
    if "calls SET outcome_index = 6" in sql and read == "log":
        there.add(7)
    reader = Reader.open(vault)
    assert READERS[read](reader) == altered & there
    reader.close()


NOT_UNICODE = ["UPDATE contents SET data = x'ff' WHERE leaf_index = 1 AND kind = 'response_text'"]
NOT_UNICODE += ["UPDATE contents SET kind = CAST(x'ff' AS TEXT) WHERE leaf_index = 1 AND kind = 'response_text'"]
NOT_UNICODE += [
    f"UPDATE calls SET {column} = CAST(x'ff' AS TEXT) WHERE intent_index = 0"  # noqa: S608 - constants
    for column in ("model", "request_id", "surface", "source", "api_key_id", "mode", "finish_reason")
]


@pytest.mark.parametrize("statement", NOT_UNICODE)
@pytest.mark.parametrize("read", READERS)
def test_a_text_that_is_no_longer_unicode_stops_no_reader(vault: Path, read: str, statement: str) -> None:
    alter(vault, statement)
    reader = Reader.open(vault)
    assert READERS[read](reader) == {0}
    assert reader.stats()["calls"] == 4
    reader.close()


def test_numbers_end_though_a_call_was_moved_to_the_end_of_all_indexes(vault: Path) -> None:
    alter(vault, "UPDATE calls SET intent_index = 9223372036854775807 WHERE intent_index = 2")
    alter(vault, "UPDATE calls SET intent_index = -9223372036854775808 WHERE intent_index = 4")
    reader = Reader.open(vault)
    assert reader.stats()["calls"] == 4
    reader.close()


def test_an_export_names_what_was_altered_and_goes_on(vault: Path) -> None:
    alter(vault, "DELETE FROM leaves WHERE leaf_index = 1")
    reader = Reader.open(vault)
    told: list[int] = []
    pieces = reader.export(ExportForm.JSONL, on_altered=lambda call: told.append(call.record_index))
    lines = [json.loads(piece) for piece in pieces]
    reader.close()
    assert told == [1]
    assert [line["altered"] for line in lines] == [True, False, False, False]
    assert (lines[0]["record"], lines[0]["timings"], lines[0]["prompt"]) == (
        {"index": 1, "leaf": None},
        None,
        "question 0",
    )
