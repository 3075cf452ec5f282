"""What was erased in the vault goes from batches too, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minivault.batches.erasing import Place
from minivault.batches.store import BatchStore, new_id
from minivault.batches.values import Batch, Counts, Line, Result, Status
from minivault.errors import LedgerUnavailable

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


def erase(store: BatchStore, *calls: str, mark: str = "1", owner: str | None = None) -> None:
    store.note_erased([(call, owner) for call in calls], mark)
    for batch_id in store.noted():
        store.write_over(batch_id)


def ended_of(store: BatchStore, batch: Batch, now: int = 4) -> Batch:
    store.step(batch.id, Status.CANCELLING, now)
    return store.end(batch.id, Status.CANCELLED, now)


def read(store: BatchStore, file_id: str | None) -> bytes:
    return b"".join(store.content(file_id or ""))


def words_on_disk(tmp_path: Path) -> list[bool]:
    disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    return [words.encode() in disk for words in WORDS]


@pytest.mark.parametrize(("piece", "chunk"), [(7, 1), (60, 1 << 20), (1000, 1)])
def test_a_line_of_an_ended_batch_goes_from_its_files_and_no_other_byte_moves(
    tmp_path: Path, piece: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minivault.batches.erasing.CHUNK_BYTES", chunk)
    store, batch = begun(tmp_path, piece=piece)
    files = batch.input_file_id, ended_of(store, batch).output_file_id
    before = [read(store, one) for one in files]
    for _ in range(2):
        erase(store, f"{batch.id}-1-r2.1", f"{batch.id}-1", "batch_00-1", "batch_", "other", mark="12 ab")
        asked, answered = (read(store, one) for one in files)
        assert [len(asked), len(answered)] == [len(one) for one in before]
        lines = [line.rstrip() for line in asked.split(b"\n")]
        assert lines == [request(0), b"", b'{"custom_id":"c1","body":{}}', request(2)]
        first, second, _ = answered.split(b"\n")
        assert first.decode() == result(batch.id, 0)
        assert json.loads(second)["error"]["code"] == "content_erased"
        assert json.loads(second)["custom_id"] == "c1"
    assert words_on_disk(tmp_path)[1] is False
    assert store.erased_mark() == "12 ab"


@pytest.mark.parametrize(("number", "counts"), [(0, Counts(3, 1, 1)), (2, Counts(3, 2, 1))])
def test_a_line_of_a_batch_that_goes_on_has_failed(tmp_path: Path, number: int, counts: Counts) -> None:
    store, batch = begun(tmp_path, piece=1000)
    for _ in range(2):
        erase(store, f"{batch.id}-{number}")
        assert store.batch(batch.id).counts == counts
    store.finish_line(batch.id, number, Result("late", failed=False))
    assert number not in store.pending(batch.id)
    assert words_on_disk(tmp_path) == [one != number for one in range(3)]


def test_a_draft_of_an_erased_call_is_never_released(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    store.draft_line(batch.id, 2, Result(result(batch.id, 2), failed=False), "[]")
    erase(store, f"{batch.id}-2")
    assert (store.drafted(batch.id), store.release_draft(batch.id, 2)) == ([], None)
    assert words_on_disk(tmp_path) == [True, True, False]


def test_only_calls_of_a_batchs_owner_that_were_lines_of_it_are_followed(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    ended_of(store, batch)
    erase(store, f"{batch.id}-1", f"{batch.id}-0-r9", owner="a stranger")
    erase(store, f"{batch.id}-3", f"{batch.id}-0-mine", f"{batch.id}-0-0123", f"{batch.id}", f"x{batch.id}-0")
    assert words_on_disk(tmp_path) == [True, True, True]
    erase(store, f"{batch.id}-1.2-0123456789abcdef")
    assert words_on_disk(tmp_path) == [True, False, True]


def test_a_batch_that_ends_meanwhile_keeps_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, batch = begun(tmp_path, piece=1000)
    real = store._places

    def ends_first(file_id: str) -> Iterator[Place]:
        monkeypatch.undo()
        ended_of(store, batch)
        return real(file_id)

    monkeypatch.setattr(store, "_places", ends_first)
    erase(store, f"{batch.id}-1")
    assert store.batch(batch.id).output_file_id is not None
    assert words_on_disk(tmp_path) == [True, False, True]


def test_a_file_is_not_read_until_it_is_written_over_also_by_a_later_process(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    output = ended_of(store, batch).output_file_id
    store.note_erased([(f"{batch.id}-1", None)], "3")
    store.close()
    store = BatchStore.open(tmp_path / "batches.db")
    for file_id in (batch.input_file_id, output):
        with pytest.raises(LedgerUnavailable, match="erased is being taken out"):
            store.content(file_id or "")
    other = store.finish_file(store.begin_file(None, 1), "other.jsonl", "batch")
    assert read(store, other.id) == b""
    store.write_over(batch.id)
    assert WORDS[0].encode() in read(store, output)
    assert WORDS[1].encode() not in read(store, output) + read(store, batch.input_file_id)
    assert store.noted() == []


def test_a_line_too_deep_to_read_is_written_over_if_it_ran_and_left_alone_if_it_did_not(tmp_path: Path) -> None:
    store = BatchStore.open(tmp_path / "batches.db")
    file_id = store.begin_file(None, 1)
    store.append(file_id, b"[" * 200_000)
    store.finish_file(file_id, "in.jsonl", "batch")
    failed, ran = (Batch(new_id("batch"), None, "local", "/v1/completions", file_id, created_at=1) for _ in range(2))
    store.add(failed)
    store.step(failed.id, Status.FAILED, 2)
    erase(store, f"{failed.id}-0")
    assert read(store, file_id) == b"[" * 200_000
    store.add(ran)
    store.begin(ran.id, [Line(0, "c0", "{}")], 2)
    erase(store, f"{ran.id}-0")
    assert json.loads(read(store, file_id)) == {"custom_id": None, "body": {}}


def test_files_go_when_their_own_time_is_over(tmp_path: Path) -> None:
    store = BatchStore.open(tmp_path / "batches.db")
    short = store.finish_file(store.begin_file(None, 100), "in.jsonl", "batch", 3600)
    assert short.expires_at == 3700
    assert (store.expire(3699), store.expire(3700)) == (0, 1)


def test_with_the_retention_a_batch_that_has_ended_goes_with_the_last_of_its_files(tmp_path: Path) -> None:
    store, batch = begun(tmp_path, piece=1000)
    assert store.expire(3700, 50) == 0  # the batch and its file are needed yet
    output = ended_of(store, batch, now=60).output_file_id
    assert store.expire(3700, 60) == 1
    assert [file.id for file in store.files()] == [output]
    erase(store, f"{batch.id}-1")
    assert words_on_disk(tmp_path) == [True, False, False]
    assert store.expire(3700, 61) == 2
    assert (store.batches(), store.files()) == ([], [])
