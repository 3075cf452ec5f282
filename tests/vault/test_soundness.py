"""What is on record of one call, held against its own records."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from minivault.vault.reader import Reader
from minivault.vault.record import Erasure
from tests.vault.samples import intent, open_ledger, record_calls


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Stored, not stored, erased, and open: intents 0, 2, 4 and 7."""
    ledger = open_ledger(tmp_path)
    record_calls(ledger, 1)
    record_calls(ledger, 1, store=False)
    record_calls(ledger, 1)
    ledger.append_erasure(Erasure((4,), "request", "cli")).result(30)
    ledger.append_intent(intent(9)).result(30)
    ledger.close()
    return tmp_path / "vault.db"


def sound(vault: Path) -> list[int]:
    reader = Reader.open(vault)
    try:
        return [index for index in (0, 2, 4, 7) if reader.is_sound(index)]
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("sql", "altered"),
    [
        ("SELECT 1", set()),
        ("UPDATE contents SET data = x'00' WHERE leaf_index = 0 AND kind = 'prompt_text'", {0}),
        ("UPDATE contents SET salt = zeroblob(32) WHERE leaf_index = 1", {0}),
        ("UPDATE contents SET kind = 'other' WHERE leaf_index = 1 AND kind = 'response_text'", {0}),
        ("DELETE FROM contents WHERE leaf_index = 7", {7}),
        ("INSERT INTO contents VALUES (2, 'prompt_text', zeroblob(32), x'00')", {2}),
        ("INSERT INTO contents VALUES (4, 'prompt_text', zeroblob(32), x'00')", {4}),
        ("UPDATE leaves SET data = x'5b' WHERE leaf_index = 1", {0}),
        ("UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 7", {7}),
        ("UPDATE calls SET outcome_index = 6 WHERE intent_index = 7", {7}),
    ],
)
def test_a_call_that_was_altered_is_not_sound(vault: Path, sql: str, altered: set[int]) -> None:
    db = apsw.Connection(str(vault))
    db.execute(sql)
    db.close()
    assert {0, 2, 4, 7} - {*sound(vault)} == altered
