"""Rows put in where no record is, and values of which no record speaks: readers show them, so verify names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.vault.database import Writer
from minivault.vault.findings import Fault
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.vault.samples import intent, open_ledger, record_calls
from tests.vault.tampering import change, check, faults

OPEN = 6
CALL = (
    "INSERT INTO calls (intent_index, outcome_index, request_id, time_ns, model, surface, source, mode, store,"
    " prompt_tokens) VALUES ({}, {}, 'gen-9', 5, 'guide', 'native', 'http', 'full', 0, 1);"
)
TEXT = "INSERT INTO contents VALUES ({}, 'prompt_text', zeroblob(32), CAST('never asked' AS BLOB))"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three whole calls, and one that is open, with intent 6; the vault ends there, as a kill leaves it."""
    folder = tmp_path_factory.mktemp("original")
    ledger = open_ledger(folder)
    record_calls(ledger, 3)
    ledger.append_intent(intent(9)).result(30)
    ledger.close()
    return folder / "vault.db"


CASES: dict[str, tuple[str, set[tuple[Fault, int | None]]]] = {
    "a call before the first": (
        CALL.format(-7, "NULL") + TEXT.format(-7),
        {(Fault.DERIVED_ALTERED, -7), (Fault.CONTENT_UNEXPECTED, None)},
    ),
    "a call behind the last": (CALL.format(1000, "NULL"), {(Fault.DERIVED_ALTERED, 1000)}),
    "a call behind the last that borrows a text": (CALL.format(1000, 4), {(Fault.DERIVED_ALTERED, 1000)}),
    "an end behind the last": (
        f"UPDATE calls SET outcome_index = 5000, finish_reason = 'stop' WHERE intent_index = {OPEN}",  # noqa: S608
        {(Fault.DERIVED_ALTERED, OPEN)},
    ),
    "an end before the first": (
        f"UPDATE calls SET outcome_index = -5, finish_reason = 'stop' WHERE intent_index = {OPEN}",  # noqa: S608
        {(Fault.DERIVED_ALTERED, OPEN)},
    ),
    **{
        f"the {column} of an open call": (
            f"UPDATE calls SET {column} = {value} WHERE intent_index = {OPEN}",  # noqa: S608
            {(Fault.DERIVED_ALTERED, OPEN)},
        )
        for column, value in {
            "finish_reason": "'stop'",
            "prompt_tokens": "99",
            "completion_tokens": "99",
            "duration_ns": "99",
        }.items()
    },
    "a record before the first": ("INSERT INTO leaves VALUES (-3, zeroblob(32), x'41')", {(Fault.UNEXPECTED, -3)}),
    "a node before the first": ("INSERT INTO nodes VALUES (1, -3, zeroblob(32))", {(Fault.TREE, None)}),
    "a node on no level": ("INSERT INTO nodes VALUES (0, 3, zeroblob(32))", {(Fault.TREE, None)}),
    "a node on a level beyond all": (
        "INSERT INTO nodes VALUES (9223372036854775807, 0, zeroblob(32))",
        {(Fault.TREE, None)},
    ),
    "a second head": ("INSERT INTO tree_state VALUES (2, 8, zeroblob(32))", {(Fault.HEAD, None)}),
    "an index that keeps what is erased": (
        "INSERT INTO search (search, rank) VALUES ('secure-delete', 0)",
        {(Fault.SEARCH, None)},
    ),
    "a mirror that keeps what is erased": (
        "UPDATE counters SET value = 100000 WHERE name = 'mirror_scrubbed'",
        {(Fault.DERIVED_ALTERED, None)},
    ),
    "a counter that no vault has": ("INSERT INTO counters VALUES ('words', 7)", {(Fault.DERIVED_ALTERED, None)}),
    "no counter of the mirror": (
        "DELETE FROM counters WHERE name = 'mirror_scrubbed'",
        {(Fault.DERIVED_ALTERED, None)},
    ),
    "an index that ranks as somebody likes": (
        "INSERT INTO search (search, rank) VALUES ('rank', 'bm25(9.0)')",
        {(Fault.SEARCH, None)},
    ),
    "a digest of what was not to be stored": (
        "UPDATE calls SET store = 0, repeat_key = 5 WHERE intent_index = 2",
        {(Fault.CONTENT_UNEXPECTED, 2)},
    ),
    "a digest of what was erased": (
        "UPDATE calls SET erased_index = 6, repeat_key = 5 WHERE intent_index = 4",
        {(Fault.CONTENT_UNEXPECTED, 4)},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("contents", [True, False], ids=["full", "quick"])
def test_what_was_put_in_is_named(vault: Path, case: str, contents: bool) -> None:
    sql, expected = CASES[case]
    change(vault, sql)
    assert expected <= faults(check(vault, contents=contents))


def test_counts_of_words_that_are_not_those_of_the_contents_are_named(vault: Path) -> None:
    change(vault, "UPDATE search_docsize SET sz = x'7f7f' WHERE id = 2")
    assert faults(check(vault)) == {(Fault.SEARCH, None)}


def test_a_vault_whose_counters_are_gone_opens_and_probes_by_writing(vault: Path) -> None:
    change(vault, "DELETE FROM counters")
    ledger = open_ledger(vault.parent, mirror_dir=vault.parent / "logs")
    record_calls(ledger, 1)
    ledger.close()
    writer = Writer.open(vault)
    before = writer.connection.execute("SELECT total_changes()").get
    writer.probe()
    assert writer.connection.execute("SELECT total_changes()").get == before + 1
    writer.close()
    assert faults(check(vault)) == {(Fault.DERIVED_ALTERED, None)}


def test_without_that_check_a_reader_would_have_shown_it(vault: Path) -> None:
    change(vault, CASES["a call before the first"][0])
    reader = Reader.open(vault)
    assert "never asked" in [call.prompt for call in reader.list().calls]
    reader.close()


def test_calls_that_begin_and_end_meanwhile_are_no_strays(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    reader = Reader.open(tmp_path / "vault.db")

    def record_two(_done: int, _size: int) -> None:
        record_calls(ledger, 2)

    report = verify(reader, progress=record_two)
    reader.close()
    ledger.close()
    assert (report.findings, report.records) == ((), 2)
