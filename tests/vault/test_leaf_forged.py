"""Leaves that no ledger wrote, with their hashes made to fit: verify names each, and never breaks down over one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from minivault.vault.findings import Fault, VerifyReport
from minivault.vault.leaf_shape import misshapen, read_leaf
from minivault.vault.merkle import leaf_hash
from minivault.vault.record import Erasure
from tests.vault.samples import open_ledger, record_calls
from tests.vault.tampering import check

ERASURE = 6
WRONG: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "a float": 1.5,
    "a number": 7,
    "a huge number": 10**300,
    "a text": "x",
    "half a character": "\ud800",
    "a list": [],
    "lists in lists": [[[["x"]]]],
    "an object": {},
    "an object of objects": {"prompt_text": {}, "total_ns": [], "model": {}},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three calls, and the erasure of the second as record 6."""
    folder = tmp_path_factory.mktemp("original")
    ledger = open_ledger(folder)
    record_calls(ledger, 3)
    ledger.append_erasure(Erasure((2,), "request", "cli")).result(30)
    ledger.close()
    return folder / "vault.db"


def leaf_of(db: apsw.Connection, index: int) -> dict[str, Any]:
    return dict(json.loads(db.execute("SELECT data FROM leaves WHERE leaf_index = ?", (index,)).get))


def put(db: apsw.Connection, index: int, data: bytes) -> None:
    db.execute("UPDATE leaves SET data = ?, hash = ? WHERE leaf_index = ?", (data, leaf_hash(data), index))


def said(report: VerifyReport, index: int) -> list[str]:
    faults = {Fault.ALTERED, Fault.MOVED, Fault.PAIRING, Fault.DERIVED_ALTERED}
    return [found.message for found in report.findings if found.index == index and found.fault in faults]


def fields(db: apsw.Connection) -> Iterator[tuple[int, str]]:
    for index in (4, 5, ERASURE):
        yield from ((index, name) for name in leaf_of(db, index))


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"a":' * 100_000, b"1" * 5_000, b"\xff", b""], ids=range(5))
@pytest.mark.parametrize("contents", [True, False], ids=["whole", "quick"])
def test_a_leaf_that_breaks_whoever_reads_it_is_named(vault: Path, data: bytes, contents: bool) -> None:
    db = apsw.Connection(str(vault))
    put(db, 5, data)
    db.close()
    assert said(check(vault, contents=contents), 5) == ["record 5 is not of the format minivault.leaf.v1"]


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_a_field_of_another_type_is_named_whichever_it_is(vault: Path, value: Any) -> None:
    db = apsw.Connection(str(vault))
    for index, name in [*fields(db)]:
        leaf = leaf_of(db, index)
        whole = json.dumps(leaf).encode()
        if type(leaf[name]) is type(value):
            continue
        put(db, index, json.dumps(leaf | {name: value}).encode())
        report = check(vault)
        assert not any("reading stopped" in finding.message for finding in report.findings), (index, name)
        wanted = {"api_key_id", "error"} if isinstance(value, str) else set()
        assert said(report, index) or name in wanted, (index, name)
        assert "\ud800" not in json.dumps(report.as_dict(), ensure_ascii=False)
        put(db, index, whole)
    db.close()


def test_a_field_that_is_gone_is_named(vault: Path) -> None:
    db = apsw.Connection(str(vault))
    for index, name in [*fields(db)]:
        leaf = leaf_of(db, index)
        rest = {other: value for other, value in leaf.items() if other != name}
        put(db, index, json.dumps(rest).encode())
        assert said(check(vault), index), (index, name)
        put(db, index, json.dumps(leaf).encode())
    db.close()


@pytest.mark.parametrize(
    ("index", "change", "field"),
    [
        (4, {"commitments": []}, "commitments"),
        (4, {"commitments": {"prompt_text": 7}}, "commitments"),
        (5, {"commitments": {"no_such_kind": "00"}}, "commitments"),
        (4, {"pin": {}}, "pin"),
        (5, {"timings": {"total_ns": "long"}}, "timings"),
        (5, {"intent_index": True}, "intent_index"),
        (ERASURE, {"intents": [2, "2"]}, "intents"),
        (ERASURE, {"intents": [True]}, "intents"),
        (4, {"kind": "secret"}, "kind"),
        (4, {"kind": []}, "kind"),
    ],
)
def test_what_is_wrong_with_a_leaf_is_named(vault: Path, index: int, change: dict[str, Any], field: str) -> None:
    db = apsw.Connection(str(vault))
    put(db, index, json.dumps(leaf_of(db, index) | change).encode())
    db.close()
    assert said(check(vault), index) == [f"record {index} is not as a record is written: its {field} is not"]


@pytest.mark.parametrize("time", ["never", "0001-01-01T00:00:00+23:59", "0000-01-01T00:00:00.000000000Z"])
def test_a_time_that_is_none_is_named(vault: Path, time: str) -> None:
    db = apsw.Connection(str(vault))
    put(db, 4, json.dumps(leaf_of(db, 4) | {"time": time}).encode())
    db.close()
    assert said(check(vault), 4) == ["the list's row of record 4 does not say what it says"]


@pytest.mark.parametrize("size", [1 << 60, (1 << 63) - 1, -500])
def test_a_head_that_counts_more_records_than_could_be_is_named(vault: Path, size: int) -> None:
    db = apsw.Connection(str(vault))
    db.pragma("ignore_check_constraints", True)
    db.execute("UPDATE tree_state SET size = ?", (size,))
    db.execute("INSERT INTO leaves SELECT ?, hash, data FROM leaves WHERE leaf_index = 5", (abs(size) - 1,))
    db.close()
    report = check(vault)
    assert {finding.fault for finding in report.findings} & {Fault.MISSING, Fault.UNEXPECTED}
    assert (report.ok, report.completeness) == (False, "broken")


def test_every_leaf_that_the_ledger_writes_is_well_shaped(original: Path) -> None:
    db = apsw.Connection(str(original), flags=apsw.SQLITE_OPEN_READONLY)
    leaves = [read_leaf(data) for (data,) in db.execute("SELECT data FROM leaves")]
    db.close()
    assert [leaf is not None and misshapen(leaf) for leaf in leaves] == [None] * 7
