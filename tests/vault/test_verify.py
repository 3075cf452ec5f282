"""Tampering: each way to change the file behind the ledger's back, and what verify makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from minivault.errors import MiniVaultError
from minivault.vault.findings import Fault
from minivault.vault.merkle import leaf_hash
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.vault.samples import intent, open_ledger, record_calls
from tests.vault.tampering import change, check, closed_vault, faults

CALLS = 9
RECORDS = 2 * CALLS


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_vault(tmp_path_factory.mktemp("original"), CALLS)


def test_an_untouched_vault_is_intact_and_self_attested(original: Path) -> None:
    report = check(original)
    assert (report.ok, report.integrity, report.completeness) == (True, "intact", "self-attested")
    assert (report.records, report.calls, report.open_calls) == (RECORDS, CALLS, 0)


def test_a_vault_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert check(tmp_path / "vault.db").records == 0


def test_open_and_unstored_calls_are_no_damage(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1, store=False)
    ledger.append_intent(intent()).result(30)
    report = check(tmp_path / "vault.db")
    ledger.close()
    assert (report.ok, report.open_calls, report.digest_only) == (True, 1, 1)


TABLE: dict[str, tuple[str, set[tuple[Fault, int | None]]]] = {
    "an outcome's bytes": (
        "UPDATE leaves SET data = CAST(replace(CAST(data AS TEXT), 'stop', 'spot') AS BLOB) WHERE leaf_index = 5",
        {(Fault.ALTERED, 5)},
    ),
    "a leaf's stored hash": (
        "UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 4",
        {(Fault.ALTERED, 4)},
    ),
    "a prompt": (
        "UPDATE contents SET data = CAST('forged' AS BLOB) WHERE leaf_index = 4 AND kind = 'prompt_text'",
        {(Fault.CONTENT_ALTERED, 4)},
    ),
    "an answer's token ids": (
        "UPDATE contents SET data = x'00' WHERE leaf_index = 5 AND kind = 'response_token_ids'",
        {(Fault.CONTENT_ALTERED, 5)},
    ),
    "a salt": (
        "UPDATE contents SET salt = zeroblob(32) WHERE leaf_index = 4 AND kind = 'raw_request'",
        {(Fault.CONTENT_ALTERED, 4)},
    ),
    "two answers exchanged": (
        "UPDATE contents SET leaf_index = 100 - leaf_index WHERE leaf_index IN (5, 7);"
        "UPDATE contents SET leaf_index = leaf_index - 88 WHERE leaf_index > 90",
        {(Fault.CONTENT_ALTERED, 5), (Fault.CONTENT_ALTERED, 7)},
    ),
    "a content deleted": (
        "DELETE FROM contents WHERE leaf_index = 5 AND kind = 'response_text'",
        {(Fault.CONTENT_MISSING, 5)},
    ),
    "a content put in": (
        "INSERT INTO contents VALUES (5, 'prompt_text', zeroblob(32), x'00')",
        {(Fault.CONTENT_UNEXPECTED, 5)},
    ),
    "a content of no record": (
        "PRAGMA foreign_keys = 0; INSERT INTO contents VALUES (500, 'prompt_text', zeroblob(32), x'00')",
        {(Fault.CONTENT_UNEXPECTED, None)},
    ),
    "a record deleted": (
        "DELETE FROM leaves WHERE leaf_index = 5",
        {(Fault.MISSING, 5), (Fault.CONTENT_UNEXPECTED, None)},
    ),
    "a call deleted without a trace": (
        "DELETE FROM contents WHERE leaf_index IN (4, 5); DELETE FROM calls WHERE intent_index = 4;"
        "DELETE FROM leaves WHERE leaf_index IN (4, 5)",
        {(Fault.MISSING, 4), (Fault.MISSING, 5)},
    ),
    "the tail cut off": (
        "DELETE FROM contents WHERE leaf_index > 15; DELETE FROM calls WHERE intent_index > 15;"
        "DELETE FROM leaves WHERE leaf_index > 15; DELETE FROM nodes WHERE ((position + 1) << level) > 16",
        {(Fault.MISSING, 16), (Fault.MISSING, 17)},
    ),
    "the tail cut off and the size with it": (
        "DELETE FROM contents WHERE leaf_index > 15; DELETE FROM calls WHERE intent_index > 15;"
        "DELETE FROM leaves WHERE leaf_index > 15; DELETE FROM nodes WHERE ((position + 1) << level) > 16;"
        "UPDATE tree_state SET size = 16",
        {(Fault.HEAD, None)},
    ),
    "two records exchanged with their hashes": (
        "UPDATE leaves SET leaf_index = 100 - leaf_index WHERE leaf_index IN (4, 6);"
        "UPDATE leaves SET leaf_index = leaf_index - 90 WHERE leaf_index > 90",
        {(Fault.MOVED, 4), (Fault.MOVED, 6), (Fault.TREE, 5), (Fault.TREE, 7)},
    ),
    "a record put in behind the last": (
        "INSERT INTO leaves SELECT 18, hash, data FROM leaves WHERE leaf_index = 5",
        {(Fault.UNEXPECTED, 18)},
    ),
    "an inner hash": (
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 1 AND position = 2",
        {(Fault.TREE, 5)},
    ),
    "an inner hash deleted": (
        "DELETE FROM nodes WHERE level = 2 AND position = 1",
        {(Fault.TREE, 7)},
    ),
    "an inner hash put in": (
        "INSERT INTO nodes VALUES (4, 1, zeroblob(32))",
        {(Fault.TREE, None)},
    ),
    "the head's root": (
        "UPDATE tree_state SET root = zeroblob(32)",
        {(Fault.HEAD, None)},
    ),
    "the head deleted": (
        "DELETE FROM tree_state",
        {(Fault.HEAD, None)} | {(Fault.UNEXPECTED, index) for index in range(RECORDS)},
    ),
    "the list's finish reason": (
        "UPDATE calls SET finish_reason = 'length' WHERE intent_index = 4",
        {(Fault.DERIVED_ALTERED, 5)},
    ),
    "the list's key": (
        "UPDATE calls SET api_key_id = 'someone' WHERE intent_index = 4",
        {(Fault.DERIVED_ALTERED, 4)},
    ),
    "the list's outcome taken away": (
        "UPDATE calls SET outcome_index = NULL WHERE intent_index = 4",
        {(Fault.DERIVED_ALTERED, 4), (Fault.DERIVED_ALTERED, 5)},
    ),
    "a row of the list deleted": (
        "DELETE FROM calls WHERE intent_index = 4",
        {(Fault.DERIVED_ALTERED, 4), (Fault.DERIVED_ALTERED, 5)},
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_each_change_is_named(vault: Path, row: str) -> None:
    sql, expected = TABLE[row]
    change(vault, sql)
    report = check(vault)
    assert {found for found in faults(report) if found[0] is not Fault.FILE} >= expected
    assert {found for found in faults(report) if found[0] is not Fault.FILE} <= expected | {(Fault.TREE, None)}
    assert not report.ok


@pytest.mark.parametrize(
    ("sql", "verdicts"),
    [
        ("UPDATE contents SET data = x'00' WHERE leaf_index = 4", ("broken", "self-attested")),
        (TABLE["a call deleted without a trace"][0], ("intact", "broken")),
    ],
)
def test_integrity_and_completeness_are_two_verdicts(vault: Path, sql: str, verdicts: tuple[str, str]) -> None:
    change(vault, sql)
    report = check(vault)
    assert (report.integrity, report.completeness) == verdicts


def test_a_forged_record_with_its_own_hash_is_found_in_the_tree(vault: Path) -> None:
    db = apsw.Connection(str(vault))
    data = next(db.execute("SELECT data FROM leaves WHERE leaf_index = 5"))[0].replace(b'"stop"', b'"fake"')
    db.execute("UPDATE leaves SET data = ?, hash = ? WHERE leaf_index = 5", (data, leaf_hash(data)))
    db.execute("UPDATE calls SET finish_reason = 'fake' WHERE outcome_index = 5")
    db.close()
    assert faults(check(vault)) == {(Fault.TREE, 5)}


def test_an_outcome_made_to_belong_to_another_call_is_found(vault: Path) -> None:
    db = apsw.Connection(str(vault))
    data = next(db.execute("SELECT data FROM leaves WHERE leaf_index = 5"))[0]
    data = data.replace(b'"intent_index":4', b'"intent_index":2')
    db.execute("UPDATE leaves SET data = ?, hash = ? WHERE leaf_index = 5", (data, leaf_hash(data)))
    db.close()
    assert (Fault.PAIRING, 5) in faults(check(vault))


def blobs(path: Path) -> Iterator[tuple[str, str, bytes]]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    for index, data in db.execute("SELECT leaf_index, data FROM leaves WHERE leaf_index IN (4, 5)"):
        yield "leaves", f"leaf_index = {index}", data
    for index, kind, data in db.execute("SELECT leaf_index, kind, data FROM contents WHERE leaf_index IN (4, 5)"):
        yield "contents", f"leaf_index = {index} AND kind = '{kind}'", data
    db.close()


def test_every_byte_of_a_record_and_of_its_content_counts(vault: Path) -> None:
    db = apsw.Connection(str(vault))
    db.pragma("synchronous", "OFF")
    for table, where, data in [*blobs(vault)]:
        for place in range(len(data)):
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            db.execute(f"UPDATE {table} SET data = ? WHERE {where}", (flipped,))  # noqa: S608 - names from above
            report = check(vault)
            assert {finding.index for finding in report.findings} & {4, 5}, (table, where, place)
        db.execute(f"UPDATE {table} SET data = ? WHERE {where}", (data,))  # noqa: S608 - names from above
    db.close()
    assert check(vault).ok


def everything(path: Path) -> list[object]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found: list[object] = [*db.execute("SELECT * FROM leaves"), *db.execute("SELECT * FROM contents")]
    found += [
        *db.execute("SELECT * FROM tree_state"),
        *db.execute("SELECT * FROM nodes"),
        *db.execute("SELECT * FROM calls"),
    ]
    db.close()
    return found


def test_a_flipped_byte_anywhere_in_the_file_is_found_or_harmless(vault: Path) -> None:
    whole, before = vault.read_bytes(), everything(vault)
    found = 0
    for place in range(0, len(whole), 97):
        vault.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            sound = check(vault).ok
        except MiniVaultError:
            sound = False
        found += not sound
        assert not sound or everything(vault) == before, f"byte {place}"
    assert found > 100


def test_an_older_copy_put_back_is_sound_in_itself(original: Path, tmp_path: Path) -> None:
    # Why the word is self-attested: only a head kept elsewhere can tell.
    vault = Path(shutil.copy(original, tmp_path / "vault.db"))
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 3)
    ledger.close()
    shutil.copy(original, vault)
    assert check(vault).completeness == "self-attested"


def test_without_content_only_records_are_checked(vault: Path) -> None:
    change(vault, "UPDATE contents SET data = x'00' WHERE leaf_index = 4")
    assert check(vault, contents=False).ok
    assert not check(vault).ok


def test_a_vault_that_is_being_written_is_verified_as_far_as_it_had_come(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 3)

    def record_more(_done: int, _size: int) -> None:
        record_calls(ledger, 3)

    report = verify(Reader.open(tmp_path / "vault.db"), progress=record_more)
    ledger.close()
    assert (report.ok, report.records) == (True, 6)


@pytest.mark.parametrize("at", [12_288, 40_000])
def test_a_file_that_cannot_be_read_to_its_end_is_not_called_complete(vault: Path, at: int) -> None:
    with vault.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 9_000)
    report = check(vault)
    assert any(finding.fault is Fault.FILE for finding in report.findings)
    assert (report.integrity, report.completeness) == ("broken", "broken")
