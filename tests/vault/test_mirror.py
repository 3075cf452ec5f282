"""``log.jsonl``: no line lost, none doubled, whatever became of the file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minivault.vault.mirror import Mirror
from tests.vault.samples import intent, open_ledger, outcome, record_calls
from tests.vault.scripted import Script, eventually, lost


def lines(folder: Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    text = (folder / "logs" / name).read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def ids(folder: Path, name: str = "log.jsonl") -> list[str]:
    return [line["id"] for line in lines(folder, name)]


def record(folder: Path, calls: int, **changes: Any) -> None:
    """Open, record so many calls, close; with the mirror on unless told otherwise."""
    ledger = open_ledger(folder, **({"mirror_dir": folder / "logs"} | changes))
    record_calls(ledger, calls)
    ledger.close()


def test_a_line_holds_the_call(tmp_path: Path) -> None:
    record(tmp_path, 1)
    assert lines(tmp_path) == [
        {
            "timestamp": "2023-11-14T22:13:20.123456789Z",
            "id": "gen-0",
            "prompt": "question 0",
            "response": "answer to 0",
            "mode": "full",
            "source": "http",
            "model": "guide",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            "processing_time_ms": 2.5,
            "finish_reason": "stop",
            "index": 1,
        }
    ]


def test_the_line_is_there_when_the_receipt_is(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    for number in range(20):
        record_calls(ledger, 1)
        assert len(lines(tmp_path)) == number + 1
    ledger.close()


def test_without_storing_a_line_has_no_content(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 1, store=False)
    ledger.close()
    assert (lines(tmp_path)[0]["prompt"], lines(tmp_path)[0]["response"]) == (None, None)


def test_an_interrupted_call_has_its_line(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    ledger.append_intent(intent(5)).result(30)
    ledger.close()
    record(tmp_path, 0)
    assert [(line["id"], line["finish_reason"], line["processing_time_ms"]) for line in lines(tmp_path)] == [
        ("gen-5", "interrupted", None)
    ]


def test_any_text_is_one_line(tmp_path: Path) -> None:
    text = 'a\nb\r\n\u2028\u2029\x85\x0b\x1c "quoted" \x00 \U0001f600'
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 1, prompt_text=text)
    ledger.close()
    raw = (tmp_path / "logs" / "log.jsonl").read_bytes()
    assert len(raw.decode("utf-8").splitlines()) == 1
    assert json.loads(raw)["prompt"] == text


def test_lines_follow_the_order_in_which_calls_ended(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    begun = [ledger.append_intent(intent(number)).result(30).index for number in range(3)]
    for index in reversed(begun):
        ledger.append_outcome(outcome(index)).result(30)
    ledger.close()
    assert ids(tmp_path) == ["gen-2", "gen-1", "gen-0"]


def test_turned_off_there_is_no_file(tmp_path: Path) -> None:
    record(tmp_path, 1, mirror_dir=None)
    assert not (tmp_path / "logs").exists()


def test_turned_on_later_it_catches_up(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    futures = [ledger.append_intent(intent(number)) for number in range(700)]
    ended = [ledger.append_outcome(outcome(future.result(30).index)) for future in futures]
    assert all(future.result(30) for future in ended)
    ledger.close()
    record(tmp_path, 0)
    assert ids(tmp_path) == [f"gen-{number}" for number in range(700)]


def keep(raw: bytes) -> bytes:
    return raw


def torn(raw: bytes) -> bytes:
    return raw[:-7]


def torn_to_the_first_line(raw: bytes) -> bytes:
    return raw[:40]


def without_the_last_line(raw: bytes) -> bytes:
    return raw[: raw.rstrip(b"\n").rindex(b"\n") + 1]


def only_the_newline_lost(raw: bytes) -> bytes:
    return raw[:-1]


def with_zeros(raw: bytes) -> bytes:
    return raw + b"\0" * 5000


def with_a_garbled_line(raw: bytes) -> bytes:
    return without_the_last_line(raw) + b"\0\xff{garbage}\n"


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "damage",
    [
        keep,
        torn,
        torn_to_the_first_line,
        without_the_last_line,
        only_the_newline_lost,
        with_zeros,
        with_a_garbled_line,
        empty,
    ],
)
def test_a_start_repairs_what_a_crash_left(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    record(tmp_path, 3)
    path = tmp_path / "logs" / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    record(tmp_path, 0)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == ["log.jsonl"]


def test_every_possible_tear_is_repaired(tmp_path: Path) -> None:
    record(tmp_path, 2)
    path = tmp_path / "logs" / "log.jsonl"
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        record(tmp_path, 0)
        assert path.read_bytes() == whole


def test_a_deleted_file_is_written_anew(tmp_path: Path) -> None:
    record(tmp_path, 2)
    (tmp_path / "logs" / "log.jsonl").unlink()
    record(tmp_path, 1)
    assert [line["prompt"] for line in lines(tmp_path)] == ["question 0", "question 1", "question 0"]


@pytest.mark.parametrize(
    "take", [Path.unlink, lambda path: os.truncate(path, 0), lambda path: path.rename(f"{path}.x")]
)
def test_a_file_that_is_taken_while_it_is_written_to_is_written_anew(
    tmp_path: Path, take: Callable[[Path], object]
) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 3)
    take(tmp_path / "logs" / "log.jsonl")
    record_calls(ledger, 1)
    eventually(lambda: len(ids(tmp_path)) == 4)
    ledger.close()
    assert [line["index"] for line in lines(tmp_path)] == [1, 3, 5, 7]


def test_what_was_copied_and_cut_goes_on_behind_the_copy(tmp_path: Path) -> None:
    """As logrotate's ``copytruncate`` does."""
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 3)
    file = tmp_path / "logs" / "log.jsonl"
    file.with_name("log.jsonl.1").write_bytes(file.read_bytes())
    os.truncate(file, 0)
    record_calls(ledger, 1)
    ledger.close()
    assert [[line["index"] for line in lines(tmp_path, name)] for name in ("log.jsonl.1", "log.jsonl")] == [
        [1, 3, 5],
        [7],
    ]


def test_the_mirror_of_another_vault_is_put_aside_whole(tmp_path: Path) -> None:
    record(tmp_path, 2)
    old = (tmp_path / "logs" / "log.jsonl").read_bytes()
    (tmp_path / "vault.db").unlink()
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    index = ledger.append_intent(intent(9)).result(30).index
    ledger.append_outcome(outcome(index)).result(30)
    ledger.close()
    assert ids(tmp_path) == ["gen-9"]
    assert (tmp_path / "logs" / "log.jsonl.1").read_bytes() == old


def test_a_file_that_is_no_mirror_is_put_aside_whole(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log.jsonl").write_text("somebody's own notes")
    record(tmp_path, 1)
    assert ids(tmp_path) == ["gen-0"]
    assert (tmp_path / "logs" / "log.jsonl.1").read_text() == "somebody's own notes"


def test_it_is_rotated_by_size_and_no_line_is_lost(tmp_path: Path) -> None:
    record(tmp_path, 30, mirror_max_bytes=1000)
    record(tmp_path, 30, mirror_max_bytes=1000)
    files = sorted(
        (tmp_path / "logs").iterdir(), key=lambda path: int(path.suffix[1:]) if path.suffix != ".jsonl" else 999
    )
    assert len(files) > 10
    assert all(path.stat().st_size <= 1000 for path in files)
    indexes = [line["index"] for path in files for line in lines(tmp_path, path.name)]
    assert indexes == list(range(1, 120, 2))


def test_a_crash_between_rotation_and_the_next_line_doubles_nothing(tmp_path: Path) -> None:
    record(tmp_path, 3)
    path = tmp_path / "logs" / "log.jsonl"
    path.rename(path.with_name("log.jsonl.1"))
    record(tmp_path, 1)
    assert [line["index"] for line in lines(tmp_path)] == [7]


def test_a_mirror_that_cannot_be_written_harms_no_record_and_catches_up(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 2)
    assert ledger.status().writable
    assert ledger.status().mirror_error is not None
    (tmp_path / "logs").unlink()
    record_calls(ledger, 1)
    assert ledger.status().mirror_error is None
    ledger.close()
    assert len(lines(tmp_path)) == 3


def test_calls_that_the_ledger_ends_by_itself_are_mirrored(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", open_writer=Script(lambda commit: commit(), lost).open)
    index = ledger.append_intent(intent(1)).result(30).index
    assert ledger.append_outcome(outcome(index)).exception(30) is not None
    eventually(lambda: ledger.status().writable and not ledger.status().open_calls)
    ledger.close()
    assert [(line["id"], line["finish_reason"]) for line in lines(tmp_path)] == [("gen-1", "failed")]


def test_what_could_not_be_written_is_made_up_for_without_another_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = Mirror._write_line, list[int]()

    def failing_once(mirror: Mirror, row: tuple[Any, ...]) -> None:
        tries.append(row[0])
        if len(tries) == 1:
            raise OSError(errno.EIO, "scripted")
        real(mirror, row)

    monkeypatch.setattr(Mirror, "_write_line", failing_once)
    monkeypatch.setattr("minivault.vault.ledger.RETRY_SECONDS", 0.01)
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    record_calls(ledger, 1)
    eventually(lambda: len(tries) == 2 and ledger.status().mirror_error is None)
    assert ids(tmp_path) == ["gen-0"]
    ledger.close()


def test_a_full_file_is_on_the_disk_before_it_has_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deeds: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(fd: int) -> None:
        target = Path(f"/proc/self/fd/{fd}").readlink()
        if tmp_path / "logs" in (target, target.parent):
            deeds.append(f"sync {target.name}")
        fsync(fd)

    def noted_rename(path: Path, target: Path) -> Path:
        deeds.append(f"{path.name} -> {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    record(tmp_path, 2, mirror_max_bytes=300)
    assert deeds == ["sync log.jsonl", "log.jsonl -> log.jsonl.1", "sync logs"]


@pytest.mark.parametrize("kept", [0, 40, -7, -1])
def test_a_full_file_whose_end_a_crash_took_is_repaired_and_no_line_is_lost(tmp_path: Path, kept: int) -> None:
    record(tmp_path, 3, mirror_max_bytes=300)
    logs = tmp_path / "logs"
    (logs / "log.jsonl").unlink()
    full = logs / "log.jsonl.2"
    full.write_bytes(full.read_bytes()[:kept])
    record(tmp_path, 0)
    files = [path for path in ("log.jsonl.1", "log.jsonl.2", "log.jsonl") if (logs / path).stat().st_size]
    assert [id for path in files for id in ids(tmp_path, path)] == ["gen-0", "gen-1", "gen-2"]
