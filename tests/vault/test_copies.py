"""Replays and repeats hold a call's content anew: what is erased of the call goes from them too."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from minivault.errors import UnknownRecord
from minivault.vault import copies
from minivault.vault.book import MAX_ERASED
from minivault.vault.findings import Fault
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.record import Erasure, Receipt
from tests.vault.samples import intent, open_ledger, outcome, ticking
from tests.vault.scripted import eventually
from tests.vault.tampering import check

SECRET = "xylophonic"
DAY_NS = 86_400 * 10**9


def begun(ledger: Ledger, **parameters: int) -> int:
    changes = {"surface": "replay"} if "replay_of" in parameters else {}
    asked = intent(7, prompt_text=f"ask {SECRET}", raw_request=SECRET.encode(), parameters=parameters, **changes)
    return ledger.append_intent(asked).result(30).index


def ended(ledger: Ledger, index: int) -> Receipt:
    return ledger.append_outcome(outcome(index, response_text=f"say {SECRET}")).result(30)


def call(ledger: Ledger, **parameters: int) -> tuple[int, int]:
    """Its two records."""
    index = begun(ledger, **parameters)
    return index, ended(ledger, index).index


def erase(ledger: Ledger, *intents: int) -> int:
    return ledger.append_erasure(Erasure(intents, "request", "cli")).result(30).index


def traces(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if SECRET.encode() in path.read_bytes().lower()]


def held(folder: Path) -> int:
    """Calls whose content is there."""
    with closing(Reader.open(folder / "vault.db")) as reader:
        return len(reader.erasable())


def test_erasing_a_call_takes_its_replays_and_repeats(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    first, answer = call(ledger)
    replay, _ = call(ledger, replay_of=first)
    repeat, again = call(ledger, from_record=answer)
    of_the_repeat, _ = call(ledger, replay_of=repeat)
    of_the_replay, _ = call(ledger, replay_of=replay)
    with closing(Reader.open(tmp_path / "vault.db")) as reader:
        assert reader.copies([first]) == (replay, repeat, of_the_repeat, of_the_replay)
        assert reader.copies([repeat]) == (of_the_repeat,)
        record = erase(ledger, first)
        assert reader.erased_by(record) == (first, replay, repeat, of_the_repeat, of_the_replay)
    ledger.close()
    assert traces(tmp_path) == []
    report = check(tmp_path)
    assert (report.ok, report.erased) == (True, 5)
    assert again < record


def test_erasing_a_replay_leaves_the_call(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    replay, _ = call(ledger, replay_of=first)
    erase(ledger, replay)
    ledger.close()
    with closing(Reader.open(tmp_path / "vault.db")) as reader:
        assert reader.erasable() == (first,)


def test_a_call_of_its_own_is_no_copy(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    call(ledger, seed=first)
    erase(ledger, first)
    ledger.close()
    assert held(tmp_path) == 1


def test_retention_takes_them_too(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    call(ledger, replay_of=first)
    ledger.close()
    with closing(apsw.Connection(str(tmp_path / "vault.db"))) as db:
        late = db.execute("SELECT max(time_ns) FROM calls").get
    # Ten days after the first, of which the replay lacks a microsecond.
    later = open_ledger(tmp_path, retention_days=10, clock=ticking(late + 10 * DAY_NS, 0))
    eventually(lambda: held(tmp_path) == 0)
    later.close()
    assert check(tmp_path).ok


def test_a_replay_that_was_running_goes_once_it_has_ended(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    running = begun(ledger, replay_of=first)
    erase(ledger, first)
    ended(ledger, running)
    eventually(lambda: held(tmp_path) == 0)
    ledger.close()
    assert traces(tmp_path) == []
    assert check(tmp_path).ok


def test_a_repeat_that_was_asked_for_before_the_erasure_goes_too(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, answer = call(ledger)
    erase(ledger, first)
    call(ledger, from_record=answer)
    eventually(lambda: held(tmp_path) == 0)
    ledger.close()


def test_more_copies_than_one_erasure_takes_all_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.vault.book.MOST", 2)
    monkeypatch.setattr(copies, "PAGE", 3)
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    for _ in range(8):
        call(ledger, replay_of=first)
    erase(ledger, first)
    ledger.close()
    assert held(tmp_path) == 0
    assert check(tmp_path).erased == 9


def without_copies(folder: Path, first: int, *, schema: bool) -> None:
    """The vault as a MiniVault left it that knew nothing of copies, with the first call erased."""
    with closing(apsw.Connection(str(folder / "vault.db"))) as db:
        if schema:
            db.execute("DROP INDEX calls_copies; ALTER TABLE calls DROP COLUMN copy_of; PRAGMA user_version = 4")
        else:
            db.execute("UPDATE calls SET copy_of = NULL")


def test_a_vault_from_before_learns_which_calls_are_copies_and_erases_what_was_left(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, answer = call(ledger)
    call(ledger, replay_of=first)
    call(ledger, from_record=answer)
    other, _ = call(ledger)
    ledger.close()
    without_copies(tmp_path, first, schema=False)
    ledger = open_ledger(tmp_path)
    erase(ledger, first)
    ledger.close()
    assert held(tmp_path) == 3
    without_copies(tmp_path, first, schema=True)
    ledger = open_ledger(tmp_path)
    eventually(lambda: held(tmp_path) == 1)
    ledger.close()
    report = check(tmp_path)
    assert (report.ok, report.erased) == (True, 3)
    with closing(Reader.open(tmp_path / "vault.db")) as reader:
        assert reader.erasable() == (other,)


@pytest.mark.parametrize("told", ["NULL", "1"])
def test_a_list_that_names_another_call_as_copied_is_found(tmp_path: Path, told: str) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    replay, _ = call(ledger, replay_of=first)
    ledger.close()
    with closing(apsw.Connection(str(tmp_path / "vault.db"))) as db:
        db.execute(f"UPDATE calls SET copy_of = {told} WHERE intent_index = {replay}")  # noqa: S608 - constants
    assert [found.fault for found in check(tmp_path).findings] == [Fault.DERIVED_ALTERED]


def test_nothing_is_erased_twice(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, _ = call(ledger)
    call(ledger, replay_of=first)
    erase(ledger, first)
    with pytest.raises(UnknownRecord):
        erase(ledger, first)
    ledger.close()


def test_copies_are_found_by_their_index(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    call(ledger)
    ledger.close()
    with closing(apsw.Connection(str(tmp_path / "vault.db"))) as db:
        plans = [
            [step[3] for step in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            for sql, values in ((copies._REACHED, (json.dumps([0]),)), (copies._PAGE, (-1, -1, MAX_ERASED)))
        ]
    assert all(any("INDEX calls_copies" in step for step in plan) for plan in plans), plans
    assert not any(step in ("SCAN calls", "SCAN copy", "SCAN whole") for plan in plans for step in plan), plans
