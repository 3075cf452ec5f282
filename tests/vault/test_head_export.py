"""Copies of heads elsewhere: what a missing folder, a torn line and a disk that hangs do to them, and to the vault."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from minivault.errors import VaultCorrupt
from minivault.vault import head_export
from minivault.vault.head import HeadPaths
from minivault.vault.head_export import HeadExport, append_note, pause_after
from tests.vault.samples import open_ledger, record_calls
from tests.vault.scripted import eventually


class Target:
    """What becomes of each attempt, by turns; then all go well."""

    def __init__(self, *errors: Exception) -> None:
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


def test_whatever_fails_the_head_is_offered_again(tmp_path: Path) -> None:
    target = Target(ValueError("of nobody's"), RuntimeError())
    export = HeadExport(tmp_path / "heads", pause=0.001, append=target.append)
    export.offer("head\n")
    eventually(lambda: not export.behind and export.error is None)
    export.close()
    assert target.landed == [b"head\n\n"]


def test_what_failed_is_told_without_its_words(tmp_path: Path) -> None:
    export = HeadExport(tmp_path / "heads", pause=3600, append=Target(ValueError("secret")).append)
    export.offer("head\n")
    eventually(lambda: export.error is not None)
    assert export.error == "the head is signed, but cannot be exported: it failed (ValueError)"
    export.close()


def test_without_a_thread_for_it_the_next_head_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    export = HeadExport(tmp_path / "heads", append=target.append)

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scripted:
        scripted.setattr(threading.Thread, "start", none_left)
        export.offer("first\n")
    assert (export.behind, export.error is None) == (True, False)
    export.offer("second\n")
    eventually(lambda: not export.behind and export.error is None)
    export.close()
    assert target.landed == [b"second\n\n"]


def test_a_vault_that_does_not_open_leaves_no_thread(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"head_interval": 3600, "head_export": tmp_path / "heads"}
    ledger = open_ledger(tmp_path, **settings)
    record_calls(ledger, 1)
    ledger.close()
    (tmp_path / "vault.db").unlink()
    with pytest.raises(VaultCorrupt, match="set back"):
        open_ledger(tmp_path, **settings)
    assert "minivault-head-export" not in {thread.name for thread in threading.enumerate()}


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


def test_the_name_of_a_new_file_is_synced_before_a_note_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, synced = tmp_path / "heads", list[tuple[Path, bytes]]()
    monkeypatch.setattr(head_export, "sync_folder", lambda folder: synced.append((folder, file.read_bytes())))
    append_note(file, b"first\n\n")
    append_note(file, b"second\n\n")
    assert synced == [(tmp_path, b"")]


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EACCES, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_no_failure_but_a_broken_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    def refuse(_folder: Path) -> None:
        raise OSError(number, "scripted")

    monkeypatch.setattr(head_export, "sync_folder", refuse)
    with pytest.raises(OSError, match="scripted") if told else contextlib.nullcontext():
        append_note(tmp_path / "heads", b"first\n\n")
    assert (tmp_path / "heads").read_bytes() == (b"" if told else b"first\n\n")


def test_a_note_whose_sync_failed_is_synced_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fsync, [OSError(errno.EIO, "scripted")]
    file = tmp_path / "heads"
    append_note(file, b"first\n\n")
    synced: list[int] = []

    def fsync(fd: int) -> None:
        if left:
            raise left.pop()
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="scripted"):
        append_note(file, b"second\n\n")
    append_note(file, b"second\n\n")
    assert file.read_bytes() == b"first\n\nsecond\n\n"
    assert len(synced) == 1


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
