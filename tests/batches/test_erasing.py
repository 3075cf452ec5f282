"""What was erased in the vault goes from batches too, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minivault.batches.store import BatchStore, new_id
from minivault.batches.values import Batch, Counts, Line, Result, Status

WORDS = [f"the secret of line {number}" for number in range(3)]


def request(number: int) -> bytes:
    return json.dumps({"custom_id": f"c{number}", "body": {"prompt": WORDS[number]}}).encode()


def result(batch_id: str, number: int) -> str:
    name = f"batch_req_{batch_id.removeprefix('batch_')}_{number}"
    answer = {"status_code": 200, "request_id": "x" * 40, "body": {"text": f"answered: {WORDS[number]}", "usage": {}}}
    return json.dumps({"id": name, "custom_id": f"c{number}", "response": answer, "error": None})


def begun(tmp_path: Path, *, piece: int) -> tuple[BatchStore, Batch]:
    """Two of three lines are answered. The input comes in pieces of so many bytes, with an empty line in it."""
    store = BatchStore.open(tmp_path / "batches.db")
    data = b"\n".join([request(0), b"", request(1), request(2)])
    file_id = store.begin_file(None, 1)
    for start in range(0, len(data), piece):
        store.append(file_id, data[start : start + piece])
    store.finish_file(file_id, "in.jsonl", "batch")
    batch = Batch(new_id("batch"), None, "local", "/v1/completions", file_id, created_at=1)
    store.add(batch)
    store.begin(batch.id, [Line(number, f"c{number}", json.dumps({"prompt": WORDS[number]})) for number in range(3)], 2)
    for number in range(2):
        store.finish_line(batch.id, number, Result(result(batch.id, number), failed=False))
    return store, batch


def words_on_disk(tmp_path: Path) -> list[bool]:
    disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    return [words.encode() in disk for words in WORDS]


@pytest.mark.parametrize("piece", [7, 60, 1000])
def test_a_line_of_an_ended_batch_goes_from_its_files_and_no_other_byte_moves(tmp_path: Path, piece: int) -> None:
    store, batch = begun(tmp_path, piece=piece)
    store.step(batch.id, Status.CANCELLING, 3)
    ended = store.end(batch.id, Status.CANCELLED, 4)
    assert ended.output_file_id is not None
    before = [b"".join(store.content(one)) for one in (batch.input_file_id, ended.output_file_id)]
    for _ in range(2):
        store.erase_calls([f"{batch.id}-1-r2.1", f"{batch.id}-1", "batch_00-1", "batch_", "other"], 12)
        asked, answered = (b"".join(store.content(one)) for one in (batch.input_file_id, ended.output_file_id))
        assert [len(asked), len(answered)] == [len(one) for one in before]
        lines = [line.rstrip() for line in asked.split(b"\n")]
        assert lines == [request(0), b"", b'{"custom_id":"c1","body":{}}', request(2)]
        first, second, _ = answered.split(b"\n")
        assert first.decode() == result(batch.id, 0)
        assert json.loads(second)["error"]["code"] == "content_erased"
        assert json.loads(second)["custom_id"] == "c1"
    assert words_on_disk(tmp_path)[1] is False
    assert store.erased_mark() == 12


@pytest.mark.parametrize(("number", "counts"), [(0, Counts(3, 1, 1)), (2, Counts(3, 2, 1))])
def test_a_line_of_a_batch_that_goes_on_has_failed(tmp_path: Path, number: int, counts: Counts) -> None:
    store, batch = begun(tmp_path, piece=1000)
    for _ in range(2):
        store.erase_calls([f"{batch.id}-{number}"], 3)
        assert store.batch(batch.id).counts == counts
    store.finish_line(batch.id, number, Result("late", failed=False))
    assert number not in store.pending(batch.id)
    assert words_on_disk(tmp_path) == [one != number for one in range(3)]


def test_a_draft_of_an_erased_call_is_never_released(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    store.draft_line(batch.id, 2, Result(result(batch.id, 2), failed=False), "[]")
    store.erase_calls([f"{batch.id}-2"], 3)
    assert (store.drafted(batch.id), store.release_draft(batch.id, 2)) == ([], None)
    assert words_on_disk(tmp_path) == [True, True, False]


def test_files_go_when_their_own_time_is_over_and_batches_that_have_ended_with_the_retention(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    short = store.finish_file(store.begin_file(None, 100), "in.jsonl", "batch", 3600)
    assert short.expires_at == 3700
    assert (store.expire(3699), store.expire(3700)) == (0, 1)
    assert store.expire(3700, 50) == 0  # the batch and its file are needed yet
    store.step(batch.id, Status.CANCELLING, 3)
    store.end(batch.id, Status.CANCELLED, 60)
    assert store.expire(3700, 50) == 2
    assert store.batches() == []
    assert [file.purpose for file in store.files()] == ["batch_output"]
