"""The ledger: what a receipt means, and what happens when there is none."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from minivault.errors import LedgerUnavailable, MiniVaultError, UnknownRecord, VaultCorrupt
from minivault.files import HAS_MODES, OPEN_FILES_STAY
from minivault.vault.database import Writer, open_reader
from minivault.vault.ledger import Ledger
from minivault.vault.reader import CallDetail, Reader
from minivault.vault.verify import verify
from tests.vault.samples import NOON, intent, open_ledger, outcome, record_calls, ticking
from tests.vault.scripted import Held, Script, eventually, good, landed, lost


def get(folder: Path, record: int | str) -> CallDetail:
    return Reader.open(folder / "vault.db").get(record)


def failure(future: Any) -> MiniVaultError:
    error = future.exception(30)
    assert isinstance(error, MiniVaultError)
    return error


def assert_sound(folder: Path) -> None:
    assert verify(Reader.open(folder / "vault.db")).findings == ()


def test_a_receipt_names_the_record_and_its_leaf(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    begun = ledger.append_intent(intent()).result(30)
    ended = ledger.append_outcome(outcome(begun.index)).result(30)
    ledger.close()
    detail = get(tmp_path, "gen-1")
    assert (begun.index, ended.index) == (0, 1)
    assert (detail.intent_leaf, detail.outcome_leaf) == (begun.leaf, ended.leaf)
    assert_sound(tmp_path)


def test_what_has_a_receipt_is_seen_by_others_at_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    index = ledger.append_intent(intent()).result(30).index
    assert get(tmp_path, index).call.prompt == "question 1"
    ledger.close()


def test_two_calls_never_have_one_id(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open)
    futures = [ledger.append_intent(intent(request_id="mine"))]
    assert held.begun.wait(30)
    futures += [ledger.append_intent(intent(request_id=name)) for name in ("mine", "mine", "other")]
    held.let_go.set()
    receipts = [future.result(30) for future in futures]
    names = [receipt.call_id or "" for receipt in receipts]
    assert [get(tmp_path, name).call.index for name in names] == [receipt.index for receipt in receipts]
    assert names[::3] == ["mine", "other"]
    assert all(re.fullmatch("mine-[0-9a-f]{16}", name) for name in names[1:3])
    ledger.close()
    assert_sound(tmp_path)


def test_an_import_keeps_the_id_that_says_it_was_done(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    receipts = [ledger.append_intent(intent(request_id="old", surface="import")).result(30) for _ in range(2)]
    ledger.close()
    assert [receipt.call_id for receipt in receipts] == ["old", "old"]


def test_what_waited_during_a_commit_is_committed_together(tmp_path: Path) -> None:
    held, groups = Held(), list[int]()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open, observer=lambda _, size: groups.append(size))
    futures = [ledger.append_intent(intent(0))]
    assert held.begun.wait(30)
    futures += [ledger.append_intent(intent(number)) for number in range(1, 11)]
    held.let_go.set()
    assert [future.result(30).index for future in futures] == list(range(11))
    ledger.close()
    assert groups == [1, 10]


def test_a_failed_commit_fails_its_group_and_service_goes_on(tmp_path: Path) -> None:
    script = Script(lost)
    ledger = open_ledger(tmp_path, open_writer=script.open)
    assert isinstance(failure(ledger.append_intent(intent(1))), LedgerUnavailable)
    assert ledger.append_intent(intent(2)).result(30).index == 0
    ledger.close()
    assert script.opened == 2
    assert_sound(tmp_path)


def test_a_failed_commit_is_told_in_the_status_until_a_write_succeeds(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(lost, held).open)
    failure(ledger.append_intent(intent(1)))
    eventually(lambda: not ledger.status().writable)
    assert ledger.status().reason is not None
    waiting = ledger.append_intent(intent(2))
    held.let_go.set()
    waiting.result(30)
    eventually(lambda: ledger.status().writable)
    ledger.close()


def test_the_log_says_once_why_nothing_can_be_written_and_once_that_it_can_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(tmp_path, receipt_deadline=1.0)
    path = tmp_path / "vault.db"
    kept = path.rename(tmp_path / "away.db")
    for number in range(5):
        failure(ledger.append_intent(intent(number)))
    eventually(lambda: len(caplog.messages) == 1)
    kept.rename(path)
    eventually(lambda: ledger.status().writable)
    ledger.append_intent(intent(9)).result(30)
    eventually(lambda: len(caplog.messages) == 2)
    ledger.close()
    first, second = caplog.messages
    assert first.startswith("no record can be written, so work is refused: the vault's file was ")
    assert second == "records are written again"


def test_the_log_says_that_the_disk_is_nearly_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = open_ledger(tmp_path, free=lambda _: (1 << 20, 1 << 41), receipt_deadline=1.0)
    failure(ledger.append_intent(intent(1)))
    eventually(lambda: bool(caplog.messages))
    ledger.close()
    (told,) = caplog.messages
    assert "so work is refused: the disk is nearly full" in told


def test_the_log_says_that_a_write_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open, receipt_deadline=0.2)
    failure(ledger.append_intent(intent(1)))
    eventually(lambda: bool(caplog.messages))
    held.let_go.set()
    eventually(lambda: len(caplog.messages) == 2)
    ledger.close()
    assert "hangs" in caplog.messages[0]


def test_a_failure_that_passes_at_once_is_in_the_log_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(lost).open)
    failure(ledger.append_intent(intent(1)))
    ledger.append_intent(intent(2)).result(30)
    ledger.close()
    assert [told.split(":")[0] for told in caplog.messages] == ["no record can be written, so work is refused"]


def test_a_ledger_that_is_well_and_its_end_are_not_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = open_ledger(tmp_path, receipt_deadline=0.1)
    record_calls(ledger, 2)
    ledger.close()
    assert caplog.messages == []


def test_service_resumes_by_itself_without_a_request(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(lost).open)
    failure(ledger.append_intent(intent(1)))
    eventually(lambda: ledger.status().writable)
    assert ledger.status().reason is None
    ledger.close()


def test_an_intent_that_landed_without_a_receipt_is_ended_as_failed(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(landed).open)
    failure(ledger.append_intent(intent(1)))
    ledger.append_intent(intent(2)).result(30)
    ledger.close()
    assert get(tmp_path, "gen-1").call.finish_reason == "failed"
    assert_sound(tmp_path)


def test_an_outcome_that_landed_without_a_receipt_is_not_written_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(good, landed).open)
    index = ledger.append_intent(intent(1)).result(30).index
    failure(ledger.append_outcome(outcome(index)))
    ledger.append_intent(intent(2)).result(30)
    ledger.close()
    assert get(tmp_path, "gen-1").call.finish_reason == "stop"
    assert_sound(tmp_path)


def test_an_outcome_that_was_lost_ends_its_call_as_failed_with_what_it_held(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(good, lost).open)
    index = ledger.append_intent(intent(1)).result(30).index
    assert isinstance(failure(ledger.append_outcome(outcome(index))), LedgerUnavailable)
    eventually(lambda: ledger.status().writable and not ledger.status().open_calls)
    ledger.close()
    detail = get(tmp_path, "gen-1")
    assert (detail.call.finish_reason, detail.call.response) == ("failed", "answer to 0")
    assert "durable" in detail.as_dict()["error"]
    assert_sound(tmp_path)


def test_a_write_that_hangs_is_an_error_at_the_deadline(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open, receipt_deadline=0.05)
    in_flight = ledger.append_intent(intent(1))
    assert held.begun.wait(30)
    queued = ledger.append_intent(intent(2))
    assert "deadline" in str(failure(in_flight))
    assert isinstance(failure(queued), LedgerUnavailable)
    assert ledger.status().reason == "a write to the vault's disk hangs"
    assert "hangs" in str(failure(ledger.append_intent(intent(3))))
    held.let_go.set()
    eventually(lambda: ledger.status().writable and not ledger.status().open_calls)
    ledger.close()
    assert [call.finish_reason for call in Reader.open(tmp_path / "vault.db").list().calls] == ["failed"]
    assert_sound(tmp_path)


def test_handing_over_never_waits_for_the_disk(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open)
    first = ledger.append_intent(intent(1))
    assert held.begun.wait(30)
    assert not any(ledger.append_intent(intent(number)).done() for number in range(2, 50))
    held.let_go.set()
    first.result(30)
    ledger.close()


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open, max_waiting=2)
    accepted = [ledger.append_intent(intent(1))]
    assert held.begun.wait(30)
    accepted += [ledger.append_intent(intent(2)), ledger.append_intent(intent(3))]
    assert "2 records already wait" in str(failure(ledger.append_intent(intent(4))))
    held.let_go.set()
    assert [future.result(30).index for future in accepted] == [0, 1, 2]
    ledger.close()


def test_one_record_that_cannot_be_written_does_not_harm_its_group(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open)
    ledger.append_intent(intent(0))
    assert held.begun.wait(30)
    before = ledger.append_intent(intent(1))
    broken = ledger.append_intent(intent(2, prompt_text="lone \ud800 surrogate"))
    after = ledger.append_intent(intent(3))
    held.let_go.set()
    assert "not Unicode" in str(failure(broken))
    assert "surrogate" not in str(failure(broken))
    assert [before.result(30).index, after.result(30).index] == [1, 2]
    ledger.close()


def test_an_outcome_that_cannot_be_written_still_ends_its_call(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    index = ledger.append_intent(intent(1)).result(30).index
    failure(ledger.append_outcome(outcome(index, response_token_ids=(-1,))))
    eventually(lambda: not ledger.status().open_calls)
    ledger.close()
    assert get(tmp_path, index).call.finish_reason == "failed"


@pytest.mark.parametrize("index", [0, 1, 99])
def test_an_outcome_needs_an_open_call(tmp_path: Path, index: int) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    assert isinstance(failure(ledger.append_outcome(outcome(index))), UnknownRecord)
    ledger.close()
    assert ledger.status().records == 2


def test_a_call_that_a_dead_process_began_is_interrupted(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.append_intent(intent(7)).result(30)
    ledger.close()
    again = open_ledger(tmp_path, mirror_dir=tmp_path)
    assert (again.status().records, again.status().open_calls) == (4, 0)
    again.close()
    call = get(tmp_path, "gen-7").call
    assert (call.finish_reason, call.prompt_tokens, call.completion_tokens) == ("interrupted", 3, 0)
    assert_sound(tmp_path)


def test_many_interrupted_calls_are_all_ended(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    futures = [ledger.append_intent(intent(number)) for number in range(600)]
    assert futures[-1].result(30).index == 599
    ledger.close()
    again = open_ledger(tmp_path)
    assert (again.status().records, again.status().open_calls) == (1200, 0)
    again.close()


def test_without_storing_only_commitments_are_kept(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, store=False, prompt_text="the secret word")
    ledger.close()
    detail = get(tmp_path, 0)
    assert (detail.call.prompt, detail.call.response, detail.prompt_token_ids) == (None, None, None)
    assert len(detail.intent["commitments"]) == 3
    assert b"secret word" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert_sound(tmp_path)


def test_a_clock_that_steps_backwards_harms_nothing(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, clock=ticking(NOON, -(10**12)))
    record_calls(ledger, 3)
    ledger.close()
    again = open_ledger(tmp_path, clock=lambda: 0)
    record_calls(again, 1)
    again.close()
    assert [call.index for call in Reader.open(tmp_path / "vault.db").list().calls] == [6, 4, 2, 0]
    assert_sound(tmp_path)


def test_when_the_disk_is_nearly_full_calls_may_end_but_not_begin(tmp_path: Path) -> None:
    free = [1 << 40]
    ledger = open_ledger(tmp_path, free=lambda _: (free[0], 1 << 41))
    index = ledger.append_intent(intent(1)).result(30).index
    free[0] = 1 << 20
    assert "nearly full" in str(failure(ledger.append_intent(intent(2))))
    ledger.append_outcome(outcome(index)).result(30)
    assert "nearly full" in str(failure(ledger.append_intent(intent(3))))
    eventually(lambda: not ledger.status().writable)
    free[0] = 1 << 40
    ledger.append_intent(intent(4)).result(30)
    eventually(lambda: ledger.status().writable)
    ledger.close()


def test_a_small_file_system_has_a_small_reserve(tmp_path: Path) -> None:
    free = [2 << 20]
    ledger = open_ledger(tmp_path, free=lambda _: (free[0], 8 << 20))
    record_calls(ledger, 1)
    free[0] = (1 << 20) - 1
    assert "nearly full" in str(failure(ledger.append_intent(intent(2))))
    assert ledger.status().records == 2
    ledger.close()


def test_closing_writes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    futures = [ledger.append_intent(intent(number)) for number in range(300)]
    ledger.close()
    ledger.close()
    assert [future.result(0).index for future in futures] == list(range(300))
    assert "closing" in str(failure(ledger.append_intent(intent())))
    assert ledger.status().reason == "the vault is closed"


def test_closing_leaves_one_file_that_can_be_copied(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "a")
    record_calls(ledger, 3)
    ledger.close()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "vault.db").write_bytes((tmp_path / "a" / "vault.db").read_bytes())
    assert len(Reader.open(tmp_path / "b" / "vault.db").list().calls) == 3


def cut_last_record(path: Path) -> None:
    """What a lost write-ahead log does: an older state that is consistent in itself."""
    db = Writer.open(path).connection
    db.execute("DELETE FROM calls; DELETE FROM contents; DELETE FROM nodes; DELETE FROM leaves")
    db.execute("UPDATE tree_state SET size = 0, root = ?", (bytes.fromhex(EMPTY),))
    db.close()


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_after_a_failure_a_file_that_lost_what_was_acknowledged_is_not_written(tmp_path: Path) -> None:
    script = Script(good, good, lost)

    def open_writer(path: Path) -> Writer:
        if script.opened:
            cut_last_record(path)
        return script.open(path)

    ledger = open_ledger(tmp_path, open_writer=open_writer)
    record_calls(ledger, 1)
    failure(ledger.append_intent(intent(2)))
    assert "acknowledged" in str(failure(ledger.append_intent(intent(3))))
    eventually(lambda: "acknowledged" in (ledger.status().reason or ""))
    ledger.close()
    assert open_reader(tmp_path / "vault.db").execute("SELECT count(*) FROM leaves").get == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE tree_state SET size = 3",
        "UPDATE tree_state SET root = zeroblob(32)",
        "DELETE FROM nodes WHERE level = 1",
    ],
)
def test_a_vault_that_does_not_hold_together_is_not_opened(tmp_path: Path, damage: str) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    db = Writer.open(tmp_path / "vault.db").connection
    db.execute(damage)
    db.close()
    with pytest.raises(VaultCorrupt, match="vault verify"):
        open_ledger(tmp_path)


async def test_receipts_can_be_awaited(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    waits = [asyncio.wrap_future(ledger.append_intent(intent(number))) for number in range(20)]
    receipts = await asyncio.gather(*waits)
    ledger.close()
    assert [receipt.index for receipt in receipts] == list(range(20))


async def test_a_caller_that_goes_away_does_not_take_the_record_along(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    future = ledger.append_intent(intent())
    waiting = asyncio.wrap_future(future)
    waiting.cancel()
    assert future.result(30).index == 0
    ledger.close()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerUnavailable, match="folder"):
        Ledger.open(tmp_path / "file" / "data" / "vault.db", mirror_dir=None)


def test_a_head_is_signed_when_it_is_asked_for(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=3600)
    record_calls(ledger, 2)
    assert ledger.sign_head().result(30) == 4
    assert ledger.status().head_size == 4
    ledger.close()


def test_a_head_asked_for_in_vain_is_told(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, head_interval=None)
    with pytest.raises(LedgerUnavailable, match="signs no heads"):
        ledger.sign_head().result(30)
    ledger.close()
    with pytest.raises(LedgerUnavailable):
        ledger.sign_head().result(30)


@pytest.mark.parametrize("askers", [2, 50])
async def test_those_who_ask_for_a_head_and_leave_harm_nobody(tmp_path: Path, askers: int) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, head_interval=3600, open_writer=Script(held).open)
    begun = ledger.append_intent(intent())
    assert held.begun.wait(30)
    for asked in [asyncio.wrap_future(ledger.sign_head()) for _ in range(askers)]:
        asked.cancel()
    held.let_go.set()
    assert begun.result(30).index == 0
    assert ledger.sign_head().result(30) == 1
    assert ledger.append_outcome(outcome(0)).result(30).index == 1
    ledger.close()
    assert_sound(tmp_path)


def test_a_ledger_that_cannot_even_go_down_is_not_writable(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, open_writer=Script(good, lost).open, receipt_deadline=0.5)
    ledger.append_intent(intent()).result(30)
    drop, faults = ledger._book.drop, [RuntimeError("stuck"), RuntimeError("stuck")]

    def drop_with_a_fault() -> None:
        drop()
        if faults:
            raise faults.pop()

    ledger._book.drop = drop_with_a_fault  # type: ignore[method-assign]
    assert isinstance(failure(ledger.append_outcome(outcome(0))), LedgerUnavailable)
    eventually(lambda: "thread has ended" in (ledger.status().reason or ""))
    assert not ledger.status().writable
    assert isinstance(failure(ledger.append_intent(intent())), LedgerUnavailable)
    with pytest.raises(LedgerUnavailable):
        ledger.sign_head().result(30)
    ledger.close()


def test_an_opening_that_fails_at_its_end_lets_the_vault_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", none_left)
        with pytest.raises(RuntimeError):
            open_ledger(tmp_path)
    open_ledger(tmp_path).close()


def test_the_name_of_each_new_folder_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("minivault.vault.ledger.sync_folder", synced.append)
    open_ledger(tmp_path / "a" / "b" / "c").close()
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


open_files_go = pytest.mark.skipif(OPEN_FILES_STAY, reason="an open file can be neither renamed nor removed here")
OTHER_CLIENT = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT 1 FROM leaves'); db.close()"


@open_files_go
def test_no_receipt_is_given_once_the_file_is_removed(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    (tmp_path / "vault.db").unlink()
    for _ in range(2):
        assert "removed or replaced" in str(failure(ledger.append_intent(intent(1))))
    eventually(lambda: "removed or replaced" in (ledger.status().reason or ""))
    assert not ledger.status().writable
    ledger.close()
    assert not (tmp_path / "vault.db").exists()


def test_an_outcome_that_no_database_takes_ends_its_call_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minivault.vault.ledger.MOST_LOST_BYTES", 1 << 20)

    def limited(path: Path) -> Writer:
        writer = Writer.open(path)
        writer.connection.limit(apsw.SQLITE_LIMIT_LENGTH, 1 << 20)
        return writer

    ledger = open_ledger(tmp_path, open_writer=limited)
    begun = ledger.append_intent(intent(1)).result(30)
    failure(ledger.append_outcome(replace(outcome(begun.index), response_text="x" * (2 << 20))))
    eventually(lambda: ledger.status().writable and not ledger.status().open_calls)
    record_calls(ledger, 1)
    ledger.close()
    call = get(tmp_path, begun.index).call
    assert (call.finish_reason, call.response) == ("failed", "")
    assert_sound(tmp_path)


@open_files_go
def test_an_idle_ledger_notices_that_its_file_is_gone_and_that_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minivault.vault.ledger.LOOK_SECONDS", 0.05)
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    (tmp_path / "vault.db").rename(tmp_path / "away")
    eventually(lambda: "removed or replaced" in (ledger.status().reason or ""))
    (tmp_path / "away").rename(tmp_path / "vault.db")
    eventually(lambda: ledger.status().writable)
    record_calls(ledger, 1)
    ledger.close()


@open_files_go
def test_no_receipt_is_given_for_a_file_removed_during_the_commit(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open)
    waiting = ledger.append_intent(intent(1))
    assert held.begun.wait(30)
    (tmp_path / "vault.db").unlink()
    held.let_go.set()
    assert "removed or replaced" in str(failure(waiting))
    ledger.close()


@open_files_go
def test_no_receipt_is_given_once_a_copy_took_the_place_of_the_file(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    shutil.copy(tmp_path / "vault.db", tmp_path / "copy")
    kept = (tmp_path / "copy").read_bytes()
    (tmp_path / "copy").replace(tmp_path / "vault.db")
    for _ in range(2):
        assert "removed or replaced" in str(failure(ledger.append_intent(intent(1))))
    ledger.close()
    assert (tmp_path / "vault.db").read_bytes() == kept


@open_files_go
@pytest.mark.parametrize("moved", ["data", "data/vault.db"])
def test_service_goes_on_once_the_file_is_back(tmp_path: Path, moved: str) -> None:
    folder = tmp_path / "data"
    ledger = open_ledger(folder)
    record_calls(ledger, 1)
    (tmp_path / moved).rename(tmp_path / "away")
    failure(ledger.append_intent(intent(1)))
    (tmp_path / "away").rename(tmp_path / moved)
    eventually(lambda: ledger.status().writable)
    record_calls(ledger, 1)
    ledger.close()
    assert_sound(folder)


@open_files_go
def test_a_call_whose_record_went_into_the_file_that_was_moved_is_ended_once_it_is_back(tmp_path: Path) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open)
    waiting = ledger.append_intent(intent(1))
    assert held.begun.wait(30)
    (tmp_path / "vault.db").rename(tmp_path / "away")
    held.let_go.set()
    failure(waiting)
    (tmp_path / "away").rename(tmp_path / "vault.db")
    eventually(lambda: ledger.status().writable)
    ledger.close()
    assert get(tmp_path, "gen-1").call.finish_reason == "failed"
    assert_sound(tmp_path)


@pytest.mark.skipif(not HAS_MODES, reason="making a symbolic link takes a privilege here")
def test_the_vault_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.db").touch()
    (tmp_path / "vault.db").symlink_to(tmp_path / "elsewhere" / "real.db")
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    assert_sound(tmp_path)


@open_files_go
def test_what_a_removed_log_held_is_kept_and_no_receipt_is_given(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 2)
    (tmp_path / "vault.db-wal").unlink()
    for _ in range(2):
        assert "write-ahead log was removed" in str(failure(ledger.append_intent(intent(3))))
    ledger.close()
    open_ledger(tmp_path).close()
    assert [call.id for call in Reader.open(tmp_path / "vault.db").list().calls] == ["gen-1", "gen-0"]
    assert_sound(tmp_path)


def test_another_client_that_closes_the_vault_does_not_take_the_log_from_under_the_ledger(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    Reader.open(tmp_path / "vault.db").list()
    before = (tmp_path / "vault.db-wal").stat().st_ino
    subprocess.run([sys.executable, "-c", OTHER_CLIENT, str(tmp_path / "vault.db")], check=True, timeout=60)
    assert (tmp_path / "vault.db-wal").stat().st_ino == before
    ledger.close()
