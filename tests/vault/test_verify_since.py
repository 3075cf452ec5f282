"""Verifying only what came since: it finds the same there, and a tree that does not go on is seen."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from minivault.vault.findings import Fault, Verified, VerifyReport
from minivault.vault.head import HeadPaths
from minivault.vault.reader import Reader
from minivault.vault.record import Erasure
from minivault.vault.verify import verify
from tests.vault.samples import intent, open_ledger, outcome, record_calls


def check(folder: Path, since: Verified | None = None) -> VerifyReport:
    reader = Reader.open(folder / "vault.db")
    try:
        return verify(reader, since=since, against=HeadPaths(folder / "vault.db").load_head())
    finally:
        reader.close()


@pytest.fixture
def earlier(tmp_path: Path) -> Verified:
    """Three calls and an open one were verified; then that one ended, one was erased, and two more came."""
    ledger = open_ledger(tmp_path, head_interval=3600)
    indexes = record_calls(ledger, 3)
    index = ledger.append_intent(intent(9, store=False)).result(30).index
    report = check(tmp_path)
    ledger.append_outcome(outcome(index)).result(30)
    ledger.append_erasure(Erasure((indexes[1],), "request", "cli")).result(30)
    record_calls(ledger, 2)
    ledger.close()
    assert (report.ok, report.open_calls) == (True, 1)
    return Verified(report.records, bytes.fromhex(report.root))


def test_what_came_since_is_verified_and_the_rest_passed_over(tmp_path: Path, earlier: Verified) -> None:
    report = check(tmp_path, earlier)
    assert report.findings == ()
    assert (report.records, report.since, report.calls, report.erased, report.open_calls) == (13, 7, 2, 1, 0)


def test_nothing_new_is_no_damage(tmp_path: Path, earlier: Verified) -> None:
    whole = check(tmp_path)
    assert check(tmp_path, Verified(whole.records, bytes.fromhex(whole.root))).ok


@pytest.mark.parametrize(
    ("sql", "fault", "index"),
    [
        ("UPDATE leaves SET data = x'00' WHERE leaf_index = 10", Fault.ALTERED, 10),
        ("DELETE FROM contents WHERE leaf_index = 10", Fault.CONTENT_MISSING, 10),
        ("UPDATE calls SET erased_index = NULL WHERE intent_index = 2", Fault.ERASURE, 8),
        ("UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 6", Fault.HEAD, None),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 2 AND position = 0", Fault.HEAD, None),
        ("DELETE FROM nodes WHERE level = 2 AND position = 0", Fault.TREE, None),
    ],
)
def test_damage_is_named(tmp_path: Path, earlier: Verified, sql: str, fault: Fault, index: int | None) -> None:
    db = apsw.Connection(str(tmp_path / "vault.db"))
    db.execute(sql)
    db.close()
    assert (fault, index) in {(finding.fault, finding.index) for finding in check(tmp_path, earlier).findings}


def test_a_vault_that_was_set_back_is_seen(tmp_path: Path, earlier: Verified) -> None:
    assert "verified before" in check(tmp_path, Verified(500, earlier.root)).findings[0].message


@pytest.mark.parametrize("text", ["", "x y", "-1 " + "0" * 64, "5 00", "\u00e9"])
def test_a_note_that_cannot_be_read_means_all(tmp_path: Path, text: str) -> None:
    Verified.path(tmp_path / "vault.db").write_text(text)
    assert Verified.load(tmp_path / "vault.db") is None
