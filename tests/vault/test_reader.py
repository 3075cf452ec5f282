"""Reading: lists, pages, filters, search, one call, statistics, export."""

from __future__ import annotations

import csv
import gc
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from minivault.errors import InvalidRequest, LedgerUnavailable, UnknownRecord, UnsupportedFeature
from minivault.vault import reader as reader_module
from minivault.vault.queries import match_expression
from minivault.vault.reader import CallFilter, ExportForm, Reader
from minivault.vault.record import ContentKind, Erasure, commitment
from tests.vault.samples import NOON, PIN, intent, open_ledger, outcome, record_calls

CALLS: list[dict[str, Any]] = [
    {"prompt_text": "How do I change the port?", "surface": "native"},
    {"prompt_text": "Tell me a story", "surface": "openai", "api_key_id": "alice"},
    {"prompt_text": "Wie ändere ich den Port?", "api_key_id": "bob", "source": "cli"},
    {"prompt_text": "rate limits; DROP TABLE calls", "store": False},
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Four ended calls (indexes 0, 2, 4, 6) and one that runs (8)."""
    folder = tmp_path_factory.mktemp("vault")
    ledger = open_ledger(folder)
    for number, changes in enumerate(CALLS):
        index = ledger.append_intent(intent(number, **changes)).result(30).index
        ledger.append_outcome(outcome(index, finish_reason="length" if number == 1 else "stop")).result(30)
    ledger.append_intent(intent(9)).result(30)
    ledger.close()
    found = Reader.open(folder / "vault.db")
    yield found
    found.close()


def indexes(reader: Reader, **filters: Any) -> list[int]:
    return [call.index for call in reader.list(CallFilter(**filters)).calls]


def test_the_newest_call_comes_first(reader: Reader) -> None:
    assert indexes(reader) == [8, 6, 4, 2, 0]


def test_pages_join_without_gap_or_overlap(reader: Reader) -> None:
    seen, cursor = list[int](), None
    while True:
        page = reader.list(cursor=cursor, limit=2)
        seen += [call.index for call in page.calls]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [8, 6, 4, 2, 0]


def test_a_page_that_ends_with_the_last_call_has_no_next(reader: Reader) -> None:
    assert reader.list(limit=5).next_cursor is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"api_key_id": "alice"}, [2]),
        ({"api_key_id": "nobody"}, []),
        ({"surface": "openai"}, [2]),
        ({"source": "cli"}, [4]),
        ({"finish_reason": "length"}, [2]),
        ({"model": "guide", "finish_reason": "stop"}, [6, 4, 0]),
        ({"model": "other"}, []),
        ({"after_ns": NOON + 4000}, [8, 6, 4]),
        ({"before_ns": NOON + 4000}, [2, 0]),
        ({"min_duration_ns": 2_500_000}, [6, 4, 2, 0]),
        ({"max_duration_ns": 2_499_999}, []),
        ({"query": "port"}, [4, 0]),
        ({"query": "PORT", "api_key_id": "bob"}, [4]),
        ({"query": "andere"}, [4]),
        ({"query": "the port"}, [0]),
        ({"query": '"change the"'}, [0]),
        ({"query": '"the change"'}, []),
        ({"query": "answer"}, [4, 2, 0]),
        ({"query": "rate"}, []),
    ],
)
def test_filters_narrow(reader: Reader, filters: dict[str, Any], expected: list[int]) -> None:
    assert indexes(reader, **filters) == expected


def test_search_is_paged_and_shows_where(reader: Reader) -> None:
    first = reader.search("port", limit=1)
    second = reader.search("port", limit=1, cursor=first.next_cursor)
    assert [call.prompt_snippet for call in (*first.calls, *second.calls)] == [
        "Wie ändere ich den Port?",
        "How do I change the port?",
    ]
    assert [call.response_snippet for call in first.calls] == ["answer to 4"]
    assert second.next_cursor is None


@pytest.mark.parametrize("query", ["", "  ", "?!", '""', "\x00"])
def test_a_search_needs_a_word(reader: Reader, query: str) -> None:
    with pytest.raises(InvalidRequest, match="word"):
        reader.search(query)


@given(st.text(min_size=1, max_size=40))
def test_no_text_is_ever_search_syntax(reader: Reader, text: str) -> None:
    try:
        expression = match_expression(text)
    except InvalidRequest:
        assert not any(character.isalnum() for character in text)
        return
    assert re.fullmatch(r'"[^"\0]+"( "[^"\0]+")*', expression)
    assert all(call.prompt_snippet is not None for call in reader.search(text).calls)


@pytest.mark.parametrize(
    "query", ["port OR story", "port NOT story", "prompt: port", "por*", "NEAR(port)", "port AND x"]
)
def test_operators_are_words(reader: Reader, query: str) -> None:
    assert reader.search(query).calls == ()


@pytest.mark.parametrize(("key", "index"), [("gen-2", 4), (4, 4), (5, 4), ("5", 4), ("8", 8)])
def test_a_call_is_found_by_id_and_by_either_index(reader: Reader, key: str | int, index: int) -> None:
    assert reader.get(key).call.index == index


def test_an_index_is_never_another_calls_id(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    begun = [ledger.append_intent(intent(request_id=name)).result(30).index for name in ("first", "0", "77")]
    ledger.close()
    reader = Reader.open(tmp_path / "vault.db")
    assert [reader.get(key).call.index for key in ("0", "77")] == [begun[0], begun[2]]


@pytest.mark.parametrize("key", ["gen-77", 77, -1, "", "9" * 30, "4; DROP TABLE calls"])
def test_what_is_not_there_is_not_found(reader: Reader, key: str | int) -> None:
    with pytest.raises(UnknownRecord):
        reader.get(key)


def test_another_keys_call_is_not_found(reader: Reader) -> None:
    assert reader.get(2, owner="alice").call.index == 2
    with pytest.raises(UnknownRecord):
        reader.get(2, owner="bob")


def test_one_call_shows_all_that_is_recorded(reader: Reader) -> None:
    shown = reader.get("gen-1").as_dict()
    assert shown["prompt_token_ids"] == [1, 2, 3]
    assert shown["response_token_ids"] == [4, 5]
    assert shown["parameters"]["seed"] == 2**62 + 1
    assert shown["pin"]["weights_digest"] == PIN.weights_digest
    assert shown["timings"] == {"queue_ns": 1000, "total_ns": 2_500_000}
    assert shown["record"]["index"] == 3
    assert shown["timestamp"] == "2023-11-14T22:13:20.123458789Z"
    json.dumps(shown)


def test_a_call_that_still_runs(reader: Reader) -> None:
    shown = reader.get("gen-9").as_dict()
    assert (shown["finish_reason"], shown["record"], shown["response"]) == (None, None, None)


def test_an_id_used_twice_means_the_newest(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 2, request_id="same", surface="import")
    ledger.close()
    assert Reader.open(tmp_path / "vault.db").get("same").call.index == 2


@pytest.mark.parametrize("query", [None, "question"])
def test_a_page_ends_when_it_holds_much_and_its_cursor_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str | None
) -> None:
    monkeypatch.setattr("minivault.vault.reader.PAGE_BYTES", 350)
    ledger = open_ledger(tmp_path)
    recorded = record_calls(ledger, 5, prompt_text="question " + "ü" * 45)  # 152 bytes of content
    reader, seen, cursor = Reader.open(tmp_path / "vault.db"), list[list[int]](), None
    while True:
        page = reader.list(CallFilter(query=query), cursor=cursor, limit=1000)
        seen.append([call.index for call in page.calls])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [len(one) for one in seen] == [2, 2, 1]
    assert [index for one in seen for index in one] == recorded[::-1]
    assert [call.index for call in reader.walk()] == recorded
    reader.close()
    ledger.close()


def test_a_call_that_is_larger_than_a_page_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.vault.reader.PAGE_BYTES", 1)
    ledger = open_ledger(tmp_path)
    recorded = record_calls(ledger, 3)
    reader = Reader.open(tmp_path / "vault.db")
    assert [call.index for call in reader.walk()] == recorded
    reader.close()
    ledger.close()


def test_no_query_leaves_a_cursor_behind(reader: Reader) -> None:
    def cursors() -> int:
        gc.collect()
        return sum(type(one) is apsw.Cursor for one in gc.get_objects())

    call = reader.list(limit=1).calls[0]
    before = cursors()
    for _ in range(5):
        reader.list(limit=2)
        reader.search("port", limit=1)
        reader.get(call.id)
        reader.stats()
        reader.count()
        reader.finished_after(-1, limit=1)
        list(reader.walk())
        list(reader.export(ExportForm.CSV))
        with pytest.raises(InvalidRequest):
            reader.list(cursor="x")
    assert cursors() == before


@pytest.mark.parametrize("limit", [0, 1001, -5])
def test_limits_have_bounds(reader: Reader, limit: int) -> None:
    with pytest.raises(InvalidRequest, match=r"1 \.\. 1000"):
        reader.list(limit=limit)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1 OR 1", "9" * 19])
def test_only_our_cursors_are_taken(reader: Reader, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        reader.list(cursor=cursor)


def test_calls_in_the_order_in_which_they_ended(reader: Reader) -> None:
    assert [call.outcome_index for call in reader.finished_after(1)] == [3, 5, 7]
    assert [call.outcome_index for call in reader.finished_after(-1, limit=1)] == [1]


def test_statistics(reader: Reader) -> None:
    found = reader.stats()
    assert (found["calls"], found["open_calls"], found["prompt_tokens"], found["completion_tokens"]) == (5, 1, 15, 8)
    assert found["finish_reasons"] == {"length": 1, "open": 1, "stop": 3}
    assert found["models"] == {"guide": 5}
    assert found["days"] == {"2023-11-14": 5}
    assert found["processing_time_ms"] == {"p50": 2.5, "p95": 2.5, "p99": 2.5}


def test_statistics_by_day_model_and_key(reader: Reader) -> None:
    found = reader.stats()
    assert [(group["day"], group["calls"]) for group in found["by_day"]] == [("2023-11-14", 5)]
    assert [(group["model"], group["processing_time_ms"]["p99"]) for group in found["by_model"]] == [("guide", 2.5)]
    keys = [(group["api_key_id"], group["calls"], group["completion_tokens"]) for group in found["by_key"]]
    assert keys == [(None, 3, 4), ("alice", 1, 2), ("bob", 1, 2)]


def test_statistics_of_a_selection(reader: Reader) -> None:
    assert reader.stats(CallFilter(api_key_id="alice"))["finish_reasons"] == {"length": 1}


def test_json_lines_hold_every_call(reader: Reader) -> None:
    lines = [json.loads(line) for line in reader.export(ExportForm.JSONL)]
    assert [line["index"] for line in lines] == [0, 2, 4, 6, 8]
    assert lines[0] == reader.get(0).as_dict() | {"altered": False}


def test_a_call_is_one_line_to_every_reader_of_lines(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four\nfive"
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, prompt_text=text)
    ledger.close()
    reader = Reader.open(tmp_path / "vault.db")
    [line] = b"".join(reader.export(ExportForm.JSONL)).decode().splitlines()
    reader.close()
    assert json.loads(line)["prompt"] == text


def test_csv_reads_back(reader: Reader) -> None:
    rows = list(csv.DictReader(io.StringIO(b"".join(reader.export(ExportForm.CSV)).decode())))
    assert [row["prompt"] for row in rows][:3] == [changes["prompt_text"] for changes in CALLS][:3]
    assert rows[1]["finish_reason"] == "length"
    assert (rows[1]["record"], rows[4]["record"]) == ("3", "8")  # the call that has not ended is shown by its intent


def test_csv_of_nothing_has_a_head(tmp_path: Path) -> None:
    assert b"".join(Reader.open(tmp_path / "vault.db").export(ExportForm.CSV)).startswith(b"record,index,")


def test_parquet_reads_back(reader: Reader, tmp_path: Path) -> None:
    file = tmp_path / "calls.parquet"
    file.write_bytes(b"".join(reader.export(ExportForm.PARQUET)))
    rows = parquet.read_table(file).drop_columns(["timestamp"]).to_pylist()
    assert [row["prompt"] for row in rows][:4] == [*(changes["prompt_text"] for changes in CALLS[:3]), None]
    assert rows[0]["prompt_token_ids"] == [1, 2, 3]
    assert json.loads(rows[0]["parameters"]) == reader.get(0).intent["parameters"]
    assert (rows[3]["store"], rows[4]["outcome_index"]) == (False, None)
    assert (rows[1]["record"], rows[4]["record"]) == (3, 8)


def test_parquet_is_written_in_groups(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.vault.parquet.GROUP_ROWS", 2)
    pieces = list(reader.export(ExportForm.PARQUET))
    assert len(pieces) == 3
    assert parquet.ParquetFile(io.BytesIO(b"".join(pieces))).num_row_groups == 3


def test_parquet_without_its_extra_names_it(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedFeature, match=r"minivault\[parquet\]"):
        reader.export(ExportForm.PARQUET)


def test_an_export_tells_how_far_it_is(reader: Reader) -> None:
    told: list[tuple[int, int]] = []
    list(reader.export(ExportForm.CSV, progress=lambda done, total: told.append((done, total))))
    assert told == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_an_owner_sees_no_other_keys_calls(reader: Reader) -> None:
    assert indexes(reader, owner="alice") == [2]
    assert indexes(reader, owner="alice", api_key_id="bob") == []
    assert indexes(reader, owner="alice", query="port") == []
    assert reader.stats(CallFilter(owner="alice"))["calls"] == 1
    assert len(list(reader.export(ExportForm.JSONL, CallFilter(owner="alice")))) == 1
    assert reader.erasable(CallFilter(owner="alice")) == (2,)


def test_a_call_in_full_has_the_salts_of_what_is_kept(reader: Reader) -> None:
    found = reader.get(0).as_dict()
    salt = bytes.fromhex(found["salts"]["response_text"])
    assert commitment(ContentKind.RESPONSE_TEXT, salt, b"answer to 0") == found["commitments"]["response_text"]
    assert reader.get(6).as_dict()["salts"] is None


@pytest.mark.parametrize("size", [None, 0])
def test_a_vault_that_is_not_there_yet_reads_as_empty(tmp_path: Path, size: int | None) -> None:
    if size is not None:
        (tmp_path / "vault.db").touch()
    reader = Reader.open(tmp_path / "vault.db")
    assert reader.list().calls == reader.search("x").calls == reader.finished_after(-1) == ()
    assert reader.stats()["calls"] == 0
    with pytest.raises(UnknownRecord):
        reader.get(1)
    assert size is not None or not reader.exists


def test_a_reader_serves_many_threads(reader: Reader) -> None:
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(indexes(reader))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[8, 6, 4, 2, 0]] * 8


def test_reading_never_changes_the_file(reader: Reader) -> None:
    before = reader.path.read_bytes()
    list(reader.export(ExportForm.JSONL))
    with reader.connection() as db:
        assert db is not None
        with pytest.raises(Exception, match="readonly"):
            db.execute("DELETE FROM calls")
    assert reader.path.read_bytes() == before


def test_a_call_is_read_in_one_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    [index] = record_calls(ledger, 1)
    real = reader_module._token_ids

    def erase_first(*values: Any) -> tuple[int, ...] | None:
        monkeypatch.undo()
        ledger.append_erasure(Erasure((index,), "request", "cli")).result(30)
        return real(*values)

    monkeypatch.setattr(reader_module, "_token_ids", erase_first)
    reader = Reader.open(tmp_path / "vault.db")
    detail = reader.get(index)
    reader.close()
    ledger.close()
    assert (detail.call.prompt, detail.prompt_token_ids, detail.response_token_ids) == ("question 0", (1, 2, 3), (4, 5))
    assert detail.salts is not None


def test_a_vault_that_was_there_and_is_gone_does_not_read_as_empty(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    reader = Reader.open(tmp_path / "vault.db")
    (tmp_path / "vault.db").unlink()
    with pytest.raises(LedgerUnavailable, match="removed or replaced"):
        reader.list()
    reader.close()
