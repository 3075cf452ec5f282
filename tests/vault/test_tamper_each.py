"""Each record deleted, exchanged, put in and cut off, one at a time: named by its index; and each byte that counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from minivault.errors import MiniVaultError
from minivault.vault.findings import Fault, VerifyReport
from tests.vault.tampering import change, check, closed_vault

CALLS = 4
RECORDS = 2 * CALLS


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_vault(tmp_path_factory.mktemp("original"), CALLS)


def changed(original: Path, folder: Path, sql: str, **values: int) -> VerifyReport:
    """What verify says after somebody with a SQL client ran ``sql``."""
    path = Path(shutil.copy(original, folder / "vault.db"))
    change(path, sql, values)
    return check(path)


def named(report: VerifyReport, fault: Fault, index: int) -> list[str]:
    return [finding.message for finding in report.findings if (finding.fault, finding.index) == (fault, index)]


@pytest.mark.parametrize("index", range(RECORDS))
def test_a_record_that_was_deleted_is_named(original: Path, tmp_path: Path, index: int) -> None:
    report = changed(original, tmp_path, "DELETE FROM leaves WHERE leaf_index = :index", index=index)
    [message] = named(report, Fault.MISSING, index)
    assert message.startswith(f"record {index} is missing")
    assert report.completeness == "broken"


@pytest.mark.parametrize("first", range(RECORDS - 1))
def test_two_records_that_were_exchanged_are_named(original: Path, tmp_path: Path, first: int) -> None:
    second = first + 1
    report = changed(
        original,
        tmp_path,
        "UPDATE leaves SET leaf_index = 100 + leaf_index WHERE leaf_index IN (:first, :second);"
        "UPDATE leaves SET leaf_index = :second WHERE leaf_index = 100 + :first;"
        "UPDATE leaves SET leaf_index = :first WHERE leaf_index = 100 + :second",
        first=first,
        second=second,
    )
    for place, recorded_as in ((first, second), (second, first)):
        message = f"record {place} is not in its place: it was recorded as {recorded_as}"
        assert named(report, Fault.MOVED, place) == [message]


@pytest.mark.parametrize("place", range(RECORDS + 1))
def test_a_record_that_was_put_in_is_named(original: Path, tmp_path: Path, place: int) -> None:
    report = changed(
        original,
        tmp_path,
        "UPDATE leaves SET leaf_index = 100 + leaf_index WHERE leaf_index >= :place;"
        "UPDATE leaves SET leaf_index = leaf_index - 99 WHERE leaf_index >= 100;"
        "INSERT INTO leaves SELECT :place, hash, data FROM leaves WHERE leaf_index = (:place + 3) % 8",
        place=place,
    )
    assert not report.ok
    if place < RECORDS:
        assert named(report, Fault.MOVED, place)
    else:
        assert named(report, Fault.UNEXPECTED, RECORDS)


@pytest.mark.parametrize("size", range(RECORDS))
def test_each_record_of_a_tail_that_was_cut_off_is_named(original: Path, tmp_path: Path, size: int) -> None:
    report = changed(
        original,
        tmp_path,
        "DELETE FROM contents WHERE leaf_index >= :size; DELETE FROM leaves WHERE leaf_index >= :size;"
        "DELETE FROM nodes WHERE ((position + 1) << level) > :size; DELETE FROM calls WHERE intent_index >= :size;"
        "UPDATE calls SET outcome_index = NULL WHERE outcome_index >= :size",
        size=size,
    )
    for index in range(size, RECORDS):
        [message] = named(report, Fault.MISSING, index)
        assert message.startswith(f"record {index} is missing")


@pytest.mark.parametrize(("column", "fault"), [("data", Fault.ALTERED), ("hash", Fault.ALTERED)], ids=["bytes", "hash"])
@pytest.mark.parametrize("value", ["NULL", "7", "'text'"])
def test_a_value_of_another_type_is_named(
    original: Path, tmp_path: Path, column: str, fault: Fault, value: str
) -> None:
    loose = "CREATE TABLE loose (leaf_index INTEGER PRIMARY KEY, hash, data)"
    report = changed(
        original,
        tmp_path,
        f"{loose}; INSERT INTO loose SELECT * FROM leaves; UPDATE loose SET {column} = {value} WHERE leaf_index = 5;"  # noqa: S608 - constants
        "PRAGMA legacy_alter_table = ON; DROP TABLE leaves; ALTER TABLE loose RENAME TO leaves",
    )
    assert named(report, fault, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """Every byte of the file that is not zero, and of the zeros each 64th."""
    vault = closed_vault(tmp_path, 1)
    whole, before = vault.read_bytes(), evidence(vault)
    found = 0
    with vault.open("r+b", buffering=0) as file:
        for place in [place for place, byte in enumerate(whole) if byte or place % 64 == 0]:
            file.seek(place)
            file.write(bytes([whole[place] ^ 0x20]))
            sound = is_sound(vault)
            found += not sound
            assert not sound or evidence(vault) == before, f"byte {place}"
            file.seek(place)
            file.write(whole[place : place + 1])
    assert found > 2_000
    assert is_sound(vault)


def is_sound(path: Path) -> bool:
    try:
        return check(path).ok
    except MiniVaultError:
        return False


def evidence(path: Path) -> list[object]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    columns = {
        "leaves": "*",
        "contents": "*",
        "nodes": "*",
        "tree_state": "size, root",
        "calls": "intent_index, outcome_index, request_id, time_ns, api_key_id, model, finish_reason",
    }
    found: list[object] = []
    for table, names in columns.items():
        found += db.execute(f"SELECT {names} FROM {table}").fetchall()  # noqa: S608 - names from above
    db.close()
    return found
