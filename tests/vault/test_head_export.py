"""Copies of heads elsewhere: what a missing folder, a torn line and a disk that hangs do to them, and to the vault."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path

import pytest

from minivault.vault import head_export
from minivault.vault.head import HeadPaths
from minivault.vault.head_export import HeadExport, append_note, pause_after
from tests.vault.samples import open_ledger, record_calls
from tests.vault.scripted import eventually


class Target:
    """What becomes of each attempt, by turns; then all go well."""

    def __init__(self, *errors: OSError) -> None:
        self._errors = list(errors)
        self.attempts: list[bytes] = []
        self.landed: list[bytes] = []

    def append(self, _path: Path, note: bytes) -> None:
        self.attempts.append(note)
        if self._errors:
            raise self._errors.pop(0)
        self.landed.append(note)


def test_a_head_is_offered_again_until_it_lands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = Target(FileNotFoundError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"))
    export = HeadExport(tmp_path / "heads", pause=0.001, append=target.append)
    with caplog.at_level(logging.WARNING, "minivault.vault"):
        export.offer("head\n")
        eventually(lambda: not export.behind and export.error is None)
    export.close()
    assert target.attempts == [b"head\n\n"] * 4
    assert [record.message for record in caplog.records] == [
        "the signed head cannot be exported; it is tried again: its folder is not there",
        "the signed head is exported again",
    ]


def test_the_next_head_is_tried_at_once_in_the_place_of_one_that_waits(tmp_path: Path) -> None:
    target = Target(PermissionError())
    export = HeadExport(tmp_path / "heads", pause=3600, append=target.append)
    export.offer("first\n")
    eventually(lambda: export.error is not None)
    assert export.error == "the head is signed, but cannot be exported: the file may not be written"
    export.offer("second\n")
    eventually(lambda: not export.behind)
    export.close()
    assert target.landed == [b"second\n\n"]


def test_closing_tries_once_more(tmp_path: Path) -> None:
    target = Target(FileNotFoundError())
    export = HeadExport(tmp_path / "heads", pause=3600, append=target.append)
    export.offer("head\n")
    eventually(lambda: export.error is not None)
    export.close()
    assert target.landed == [b"head\n\n"]


def test_pauses_grow_and_are_bounded() -> None:
    assert [pause_after(failures, 1.0) for failures in (1, 2, 3, 7, 10_000)] == [1.0, 2.0, 4.0, 60.0, 60.0]


def test_a_note_is_appended_once_and_behind_what_was_torn(tmp_path: Path) -> None:
    file = tmp_path / "heads"
    for _ in range(2):
        append_note(file, b"first\n\n")
    with file.open("ab") as torn:
        torn.write(b"seco")
    append_note(file, b"second\n\n")
    assert file.read_bytes() == b"first\n\nseco\n\nsecond\n\n"


def test_a_folder_that_comes_back_gets_the_newest_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_export, "FIRST_PAUSE", 0.01)
    file = tmp_path / "usb" / "heads"
    ledger = open_ledger(tmp_path / "v", head_interval=0.0, head_export=file)
    record_calls(ledger, 1)
    eventually(lambda: "its folder is not there" in str(ledger.status().head_error))
    assert (ledger.sign_head().result(30), ledger.status().writable) == (2, True)
    file.parent.mkdir()
    eventually(lambda: ledger.status().head_error is None)
    ledger.close()
    assert file.read_text("utf-8") == f"{HeadPaths(tmp_path / 'v' / 'vault.db').load_note()}\n"


def test_a_head_that_a_former_process_could_not_export_is_exported_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "usb" / "heads"
    ledger = open_ledger(tmp_path / "v", head_interval=3600, head_export=file)
    record_calls(ledger, 1)
    ledger.close()
    file.parent.mkdir()
    for _ in range(2):
        open_ledger(tmp_path / "v", head_interval=3600, head_export=file).close()
    assert file.read_text("utf-8") == f"{HeadPaths(tmp_path / 'v' / 'vault.db').load_note()}\n"


def test_a_target_that_hangs_holds_up_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, let_go = threading.Event(), threading.Event()

    def append(_path: Path, _note: bytes) -> None:
        hangs.set()
        assert let_go.wait(30)

    monkeypatch.setattr(head_export, "append_note", append)
    monkeypatch.setattr(head_export, "CLOSE_SECONDS", 0.01)
    ledger = open_ledger(tmp_path, head_interval=0.0, head_export=tmp_path / "heads")
    record_calls(ledger, 1)
    assert hangs.wait(30)
    record_calls(ledger, 1)
    ledger.close()
    let_go.set()
