"""Every record sound, and readers told something else: views made anew, the search index emptied or filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from minivault.errors import VaultCorrupt
from minivault.vault.cipher import VaultKey
from minivault.vault.findings import Fault, VerifyReport
from minivault.vault.migrations import MIGRATIONS
from minivault.vault.proof import prove
from minivault.vault.reader import Reader
from minivault.vault.recode import recode
from minivault.vault.record import Erasure
from minivault.vault.schema import migrate
from minivault.vault.verify import verify
from tests.vault.samples import open_ledger, record_calls
from tests.vault.tampering import change, check

KEY = VaultKey(bytes(range(32)))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five calls, of which the second was erased, and one of which no content is kept."""
    folder = tmp_path_factory.mktemp("original")
    ledger = open_ledger(folder)
    record_calls(ledger, 5)
    record_calls(ledger, 1, store=False)
    ledger.append_erasure(Erasure((2,), "request", "cli")).result(30)
    ledger.close()
    return folder / "vault.db"


def told(report: VerifyReport) -> list[tuple[Fault, int | None, str]]:
    return [(finding.fault, finding.index, finding.message) for finding in report.findings]


FORGED_TEXTS = """
DROP VIEW call_texts;
CREATE VIEW call_texts (intent_index, prompt, response) AS SELECT intent_index, 'a lie', 'another' FROM calls
"""
FORGED_INTERACTIONS = """
DROP VIEW interactions;
CREATE VIEW interactions (id, prompt, response, timestamp) AS SELECT request_id, 'a lie', 'another', '' FROM calls
"""
REMADE = "is not the one that the vault was made with"
SCHEMAS = {
    FORGED_TEXTS: f"the view call_texts {REMADE}",
    FORGED_INTERACTIONS: f"the view interactions {REMADE}",
    "DROP VIEW interactions": "the view interactions is gone",
    "DROP INDEX calls_open": "the index calls_open is gone",
    "DROP TABLE search": "the table search is gone",
    "CREATE TABLE notes (x)": "the schema has a table that the vault was not made with (1 in all)",
    "CREATE TRIGGER forge AFTER INSERT ON calls BEGIN DELETE FROM contents; END": (
        "the schema has a trigger that the vault was not made with (1 in all)"
    ),
    "DROP TABLE search; CREATE VIRTUAL TABLE search USING fts5 (prompt, response)": f"the table search {REMADE}",
}


@pytest.mark.parametrize("contents", [True, False], ids=["whole", "quick"])
@pytest.mark.parametrize("sql", SCHEMAS)
def test_a_schema_of_another_making_is_named(vault: Path, sql: str, contents: bool) -> None:
    change(vault, sql)
    report = check(vault, contents=contents)
    assert (Fault.SCHEMA, None, SCHEMAS[sql]) in told(report)
    assert (report.integrity, report.completeness) == ("broken", "self-attested")


def test_a_view_made_anew_in_an_encrypted_vault_is_named(vault: Path) -> None:
    recode(vault, None, KEY)
    assert check(vault, key=KEY).ok
    change(vault, FORGED_TEXTS, key=KEY)
    assert told(check(vault, key=KEY)) == [(Fault.SCHEMA, None, f"the view call_texts {REMADE}")]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_vault_of_any_former_schema_is_sound_once_it_is_migrated(tmp_path: Path, version: int) -> None:
    db = apsw.Connection(str(tmp_path / "vault.db"))
    migrate(db, MIGRATIONS[:version])
    db.close()
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 2)
    ledger.close()
    assert told(check(tmp_path / "vault.db")) == []


def test_a_new_and_an_analyzed_vault_are_sound(vault: Path) -> None:
    assert told(check(vault)) == []
    change(vault, "ANALYZE")
    assert told(check(vault)) == []


@pytest.mark.parametrize("contents", [True, False], ids=["whole", "quick"])
def test_an_emptied_search_index_is_named_call_by_call(vault: Path, contents: bool) -> None:
    change(vault, "INSERT INTO search (search) VALUES ('delete-all')")
    report = check(vault, contents=contents)
    assert told(report) == [
        (Fault.SEARCH, index, f"the search index lacks the call of record {index}") for index in (0, 4, 6, 8)
    ]
    assert report.integrity == "broken"


INSERT = "INSERT INTO search (rowid, prompt, response) VALUES ({0}, {1}, {2}); "


@pytest.mark.parametrize("row", [2, 10, 500])
def test_a_row_of_a_call_without_content_is_named(vault: Path, row: int) -> None:
    change(vault, INSERT.format(row, "'a lie'", "'another'"))
    found = told(check(vault, contents=False))
    assert found == [(Fault.SEARCH, row, f"the search index has a row {row}, which is no call with content")]


OTHER = "the search index does not hold the words of the contents"
AT = "SELECT 'delete', {0}, prompt, response FROM call_texts WHERE intent_index = {0}"
DELETE = f"INSERT INTO search (search, rowid, prompt, response) {AT}; "


@pytest.mark.parametrize(
    "sql",
    [
        DELETE.format(4) + INSERT.format(4, "'question lie'", "'answer to 4'"),
        DELETE.format(4) + INSERT.format(4, "'question 2'", "''"),
        DELETE.format(4) + INSERT.format(4, "'answer to 4'", "'question 2'"),
        DELETE.format(4) + INSERT.format(4, "'2 question'", "'answer to 4'"),
        DELETE.format(4)
        + DELETE.format(6)
        + INSERT.format(4, "'question 3'", "'answer to 6'")
        + INSERT.format(6, "'question 2'", "'answer to 4'"),
    ],
    ids=["a word", "words gone", "columns exchanged", "places exchanged", "calls exchanged"],
)
def test_other_words_in_the_search_index_are_named(vault: Path, sql: str) -> None:
    change(vault, sql)
    assert told(check(vault)) == [(Fault.SEARCH, None, OTHER)]


def test_words_are_compared_in_parts_of_any_size(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.vault.search_check.PAGE_CHARACTERS", 1)
    assert told(check(vault)) == []


def test_verifying_leaves_nothing_behind_in_the_connection(vault: Path) -> None:
    reader = Reader.open(vault)
    try:
        assert [verify(reader).ok for _ in range(3)] == [True] * 3
        assert len(reader.search("question").calls) == 4
    finally:
        reader.close()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM leaves WHERE leaf_index = 4",
        "DELETE FROM leaves WHERE leaf_index = 5",
        "UPDATE leaves SET data = x'ff' WHERE leaf_index = 5",
        "UPDATE leaves SET data = x'5b5d' WHERE leaf_index = 4",
        "UPDATE leaves SET data = CAST(replace(hex(zeroblob(100000)), '0', '[') AS BLOB) WHERE leaf_index = 4",
    ],
)
@pytest.mark.parametrize("read", ["get", "prove"])
def test_a_call_without_its_records_is_named_as_damage(vault: Path, sql: str, read: str) -> None:
    change(vault, sql)
    reader = Reader.open(vault)
    deeds: dict[str, Callable[[], object]] = {
        "get": lambda: reader.get(5),
        "prove": lambda: prove(reader, 5),
    }
    with pytest.raises(VaultCorrupt, match=r"record \d is missing"):
        deeds[read]()
    reader.close()
