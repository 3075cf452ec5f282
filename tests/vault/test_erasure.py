"""Erasure: nothing of what was said is left, everything that was proven stays so, and no record waits long for it."""

from __future__ import annotations

import json
import random
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from minivault.errors import InvalidRequest, UnknownRecord
from minivault.vault import search_scrub
from minivault.vault.book import MAX_ERASED
from minivault.vault.erasure import ErasureChores
from minivault.vault.findings import Fault
from minivault.vault.head import HeadPaths
from minivault.vault.ledger import Ledger
from minivault.vault.proof import check_proof, prove
from minivault.vault.reader import CallFilter, Reader
from minivault.vault.record import Erasure, Receipt
from minivault.vault.verify import PAGE, verify
from tests.vault.samples import NOON, intent, open_ledger, outcome, record_calls
from tests.vault.scripted import Script, eventually, lost
from tests.vault.tampering import check

DAY_NS = 86_400 * 10**9
SECRET = "xylophonic"


def call(ledger: Ledger, number: int, text: str = SECRET, **changes: object) -> int:
    index = ledger.append_intent(intent(number, prompt_text=f"ask {text}", raw_request=text.encode(), **changes))
    ledger.append_outcome(outcome(index.result(30).index, response_text=f"say {text}")).result(30)
    return index.result().index


def erase(ledger: Ledger, *intents: int) -> Receipt:
    return ledger.append_erasure(Erasure(intents, "request", "cli")).result(30)


def traces(folder: Path, word: str = SECRET) -> list[str]:
    """Files that hold the word in any case."""
    found = [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes().lower()]
    return sorted(path.name for path in found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five calls, of which that with intent 4 was erased; with mirror and heads."""
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", head_interval=3600)
    record_calls(ledger, 2)
    index = call(ledger, 2)
    record_calls(ledger, 2)
    assert traces(tmp_path)
    assert erase(ledger, index).index == 10
    ledger.close()
    return tmp_path


def test_no_file_holds_what_was_said(folder: Path) -> None:
    assert traces(folder) == []


def test_the_rest_is_there(folder: Path) -> None:
    reader = Reader.open(folder / "vault.db")
    erased = reader.get(4).call
    assert (erased.prompt, erased.response, erased.erased_index) == (None, None, 10)
    assert [found.prompt for found in reader.list(oldest_first=True).calls if found.index != 4] == [
        f"question {number}" for number in (0, 1, 0, 1)
    ]
    assert reader.search(SECRET).calls == ()
    assert len(reader.search("question").calls) == 4
    lines = (folder / "logs" / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 3, 7, 9]
    reader.close()


def test_the_vault_verifies_and_says_what_was_erased(folder: Path) -> None:
    report = check(folder)
    assert (report.ok, report.erased, report.records, report.calls) == (True, 1, 11, 5)
    assert check(folder, contents=False).erased == 1


def test_proofs_hold_after_the_erasure_and_the_erasure_has_one(folder: Path) -> None:
    reader, key = Reader.open(folder / "vault.db"), HeadPaths(folder / "vault.db").load_key()
    assert key is not None
    assert check_proof(prove(reader, 4), key).leaf["request_id"] == "gen-2"
    assert check_proof(prove(reader, 10), key).leaf["intents"] == [4]
    reader.close()


def test_the_mirror_goes_on_where_it_was(folder: Path) -> None:
    ledger = open_ledger(folder, mirror_dir=folder / "logs")
    record_calls(ledger, 1)
    ledger.close()
    lines = (folder / "logs" / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 3, 7, 9, 12]


def test_rotated_files_are_scrubbed_and_empty_ones_go(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", mirror_max_bytes=500)
    intents = [call(ledger, number, "w" * 300 if number % 2 else SECRET) for number in range(6)]
    erase(ledger, *intents[::2])
    ledger.close()
    assert traces(tmp_path) == []
    reopened = open_ledger(tmp_path, mirror_dir=tmp_path / "logs", mirror_max_bytes=500)
    reopened.close()
    lines = [line for path in (tmp_path / "logs").iterdir() for line in path.read_text("utf-8").splitlines()]
    assert sorted(json.loads(line)["index"] for line in lines) == [3, 7, 11]


def test_when_all_lines_are_gone_none_comes_back(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    erase(ledger, call(ledger, 1), call(ledger, 2))
    ledger.close()
    open_ledger(tmp_path, mirror_dir=tmp_path / "logs").close()
    assert (tmp_path / "logs" / "log.jsonl").read_bytes() == b""


def test_a_mirror_that_was_off_is_scrubbed_when_it_is_on_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    index = call(ledger, 1)
    ledger.close()
    ledger = open_ledger(tmp_path)
    erase(ledger, index)
    ledger.close()
    assert traces(tmp_path) == ["log.jsonl"]
    open_ledger(tmp_path, mirror_dir=tmp_path / "logs").close()
    assert traces(tmp_path) == []


def test_lines_of_another_vault_stay(tmp_path: Path) -> None:
    foreign = tmp_path / "logs" / "log.jsonl.1"
    foreign.parent.mkdir()
    foreign.write_text('{"timestamp": "x", "id": "other", "index": 1}\nno line of a mirror\n')
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    erase(ledger, call(ledger, 1))
    ledger.close()
    assert len(foreign.read_text().splitlines()) == 2


def test_erasing_while_the_server_runs_leaves_nothing_either(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    erase(ledger, call(ledger, 1))
    eventually(lambda: traces(tmp_path) == [])
    ledger.close()


def test_a_reader_in_the_way_holds_up_the_log_but_no_record(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    index = call(ledger, 1)
    reading = apsw.Connection(str(tmp_path / "vault.db"), flags=apsw.SQLITE_OPEN_READONLY)
    cursor = reading.execute("SELECT data FROM leaves, (VALUES (1), (2), (3))")
    next(cursor)
    erase(ledger, index)
    assert record_calls(ledger, 1) == [3]
    reading.close()
    ledger.close()
    assert traces(tmp_path) == []


@pytest.mark.parametrize("store", [True, False])
def test_what_holds_no_content_cannot_be_erased(tmp_path: Path, store: bool) -> None:
    ledger = open_ledger(tmp_path)
    index = ledger.append_intent(intent(store=store)).result(30).index
    if not store:
        ledger.append_outcome(outcome(index)).result(30)
    for intents in ((index,), (500,), ()):
        with pytest.raises(UnknownRecord):
            erase(ledger, *intents)
    ledger.close()
    assert check(tmp_path).ok


def test_what_was_erased_is_not_erased_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    first, second = call(ledger, 1), call(ledger, 2)
    erase(ledger, first)
    index = erase(ledger, first, second, second).index
    with pytest.raises(UnknownRecord):
        erase(ledger, first)
    ledger.close()
    report = check(tmp_path)
    assert (report.ok, report.erased, index) == (True, 2, 5)


def test_one_erasure_is_bounded(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(InvalidRequest, match=str(MAX_ERASED)):
        erase(ledger, *range(MAX_ERASED + 1))
    ledger.close()


def test_an_erasure_that_could_not_be_written_erases_nothing(tmp_path: Path) -> None:
    script = Script()
    ledger = open_ledger(tmp_path, open_writer=script.open)
    index = call(ledger, 1)
    script.steps.append(lost)
    with pytest.raises(Exception, match="vault"):
        erase(ledger, index)
    ledger.close()
    assert traces(tmp_path)
    report = check(tmp_path)
    assert (report.ok, report.erased) == (True, 0)


def test_what_can_be_erased_is_found_by_filter(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    indexes = [call(ledger, number, api_key_id=f"key-{number % 2}") for number in range(4)]
    erase(ledger, indexes[0])
    reader = Reader.open(tmp_path / "vault.db")
    assert reader.erasable(CallFilter(api_key_id="key-0")) == (indexes[2],)
    assert reader.erasable(limit=2) == (indexes[1], indexes[2])
    reader.close()
    ledger.close()


# -- retention ---------------------------------------------------------------------------------------------------------


def test_content_older_than_the_retention_is_erased_in_batches(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, MAX_ERASED + 10)
    ledger.close()
    later = NOON + 2 * DAY_NS
    ledger = open_ledger(tmp_path, retention_days=1, clock=lambda: later, mirror_dir=tmp_path / "logs")
    young = call(ledger, 999)
    reader = Reader.open(tmp_path / "vault.db")
    eventually(lambda: reader.erasable() == (young,))
    ledger.close()
    leaves = reader.get(young).call
    assert leaves.prompt == f"ask {SECRET}"
    reader.close()
    report = check(tmp_path)
    assert (report.ok, report.erased) == (True, MAX_ERASED + 10)


def test_nothing_is_erased_without_a_retention(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    index = call(ledger, 1)
    ledger.close()
    ledger = open_ledger(tmp_path, clock=lambda: sys.maxsize // 4)
    record_calls(ledger, 1)
    ledger.close()
    reader = Reader.open(tmp_path / "vault.db")
    assert reader.get(index).call.prompt is not None
    reader.close()


# -- tampering ---------------------------------------------------------------------------------------------------------

TABLE = {
    "an erasure denied": ("UPDATE calls SET erased_index = NULL WHERE intent_index = 4", (Fault.ERASURE, 10)),
    "content deleted under a false claim": (
        "DELETE FROM contents WHERE leaf_index IN (0, 1); UPDATE calls SET erased_index = 10 WHERE intent_index = 0",
        (Fault.CONTENT_MISSING, 0),
    ),
    "a claim on a record that is no erasure": (
        "DELETE FROM contents WHERE leaf_index IN (0, 1); UPDATE calls SET erased_index = 3 WHERE intent_index = 0",
        (Fault.CONTENT_MISSING, 0),
    ),
    "a claim on a record to come": (
        "PRAGMA foreign_keys = 0; DELETE FROM contents WHERE leaf_index IN (0, 1);"
        "UPDATE calls SET erased_index = 99 WHERE intent_index = 0",
        (Fault.CONTENT_MISSING, 0),
    ),
    "content put back": (
        "INSERT INTO contents VALUES (4, 'prompt_text', zeroblob(32), x'00')",
        (Fault.CONTENT_UNEXPECTED, 4),
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_each_lie_about_an_erasure_is_named(folder: Path, row: str) -> None:
    sql, expected = TABLE[row]
    db = apsw.Connection(str(folder / "vault.db"))
    db.execute(sql)
    db.close()
    assert expected in {(finding.fault, finding.index) for finding in check(folder).findings}


def test_an_erasure_amid_a_verification_is_no_damage(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    indexes = record_calls(ledger, 520)

    def erase_some(done: int, _size: int) -> None:
        if done == PAGE:
            erase(ledger, indexes[0], indexes[-1])

    reader = Reader.open(tmp_path / "vault.db")
    report = verify(reader, progress=erase_some)
    reader.close()
    ledger.close()
    assert (report.findings, report.records, report.erased) == ((), 1040, 1)


def beginnings(folder: Path, words: set[str], kept: set[str]) -> list[str]:
    """Keys of the search index that are the beginnings of these words, and of no other."""
    db = apsw.Connection(str(folder / "vault.db"), flags=apsw.SQLITE_OPEN_READONLY)
    keys = [bytes(key).decode()[1:] for (key,) in db.execute("SELECT term FROM search_idx WHERE length(term) > 4")]
    db.close()
    found = [key for key in keys if any(word.startswith(key) for word in words)]
    return [key for key in found if not any(word.startswith(key) for word in kept)]


def test_no_beginning_of_an_erased_word_is_left_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_scrub, "STEP_KEYS", 3)
    ledger = open_ledger(tmp_path)
    drawn = random.Random(5)  # noqa: S311 - words
    words = {number: {f"xylo{drawn.randrange(10**9):09d}" for _ in range(60)} for number in range(120)}
    calls = {number: call(ledger, number, " ".join(words[number])) for number in words}
    gone, kept = (set[str]().union(*(words[number] for number in words if number % 2 == odd)) for odd in (1, 0))
    monkeypatch.setattr(ErasureChores, "_scrub_keys", lambda chores: setattr(chores, "_keys", None))
    erase(ledger, *[index for number, index in calls.items() if number % 2])
    ledger.close()
    assert beginnings(tmp_path, gone, kept), "a control: FTS5 leaves them"
    monkeypatch.undo()
    open_ledger(tmp_path).close()
    assert beginnings(tmp_path, gone, kept) == []
    assert check(tmp_path).ok
    reader = Reader.open(tmp_path / "vault.db")
    assert all(len(reader.search(word).calls) == 1 for word in sorted(kept)[::25])
    reader.close()


def test_what_killed_processes_left_beside_the_vault_goes_too(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    index = call(ledger, 1)
    ledger.close()
    copies = ["vault.db.restored.part", "vault.db.restored.part-journal", "vault.db.recoded.part"]
    for name in [*copies, "logs/log.jsonl.part", "logs/log.jsonl.3.part"]:
        (tmp_path / name).write_text(SECRET)
    (tmp_path / "vault.db.restored").write_text("somebody's own")
    ledger = open_ledger(tmp_path, mirror_dir=tmp_path / "logs")
    erase(ledger, index)
    ledger.close()
    assert traces(tmp_path) == []
    assert (tmp_path / "vault.db.restored").exists()


def test_what_was_erased_comes_in_the_order_of_the_erasures(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ids = [f"{'batch' if number % 2 else 'gen'}_{number}" for number in range(6)]
    calls = [call(ledger, number, request_id=name, api_key_id="a key") for number, name in enumerate(ids)]
    first, second, third = erase(ledger, *calls[2:4]), erase(ledger, *calls[:2]), erase(ledger, calls[4])
    ledger.close()
    reader = Reader.open(tmp_path / "vault.db")
    batch_3, batch_1 = ("batch_3", "a key"), ("batch_1", "a key")
    everything = reader.erased_calls("batch_")
    after = [f"{one.index} {one.leaf}" for one in (first, second, third)]
    assert everything == ((batch_3, batch_1), after[2])
    assert reader.erased_calls("batch_", limit=3) == ((batch_3,), after[0])
    assert reader.erased_calls("batch_", after[0], limit=2) == ((batch_1,), after[1])
    assert reader.erased_calls("batch_", after[1]) == ((), after[2])
    assert reader.erased_calls("batch_", after[2]) == ((), after[2])
    others = [f"{second.index} {first.leaf}", f"{third.index} {first.leaf}", f"{third.index} "]
    for mark in (*others, "10000 ab", "ab", "-1 "):
        assert reader.erased_calls("batch_", mark) == everything
    reader.close()


def test_an_imported_call_is_never_a_batchs(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    erased = erase(ledger, call(ledger, 1, request_id="batch_0", surface="import"))
    ledger.close()
    with closing(Reader.open(tmp_path / "vault.db")) as reader:
        assert reader.erased_calls("batch_") == ((), f"{erased.index} {erased.leaf}")


def test_where_nothing_was_erased_there_is_no_id(tmp_path: Path) -> None:
    reader = Reader.open(tmp_path / "vault.db")
    assert reader.erased_calls("batch_") == ((), "")
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    ledger.close()
    assert reader.erased_calls("batch_", "7 ab") == ((), "")
    reader.close()
