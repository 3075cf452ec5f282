"""Whoever holds the cores is told when records wait for the disk, and when none does any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivault.errors import LedgerUnavailable
from tests.vault.samples import intent, open_ledger, outcome
from tests.vault.scripted import Held, Script, lost


def test_records_press_from_when_they_are_handed_over_until_their_group_is_through(tmp_path: Path) -> None:
    told: list[bool] = []
    ledger = open_ledger(tmp_path, pressing=told.append)
    receipt = ledger.append_intent(intent()).result()
    ledger.append_outcome(outcome(receipt.index)).result()
    ledger.close()
    assert told == [True, True, False] * (len(told) // 3)
    assert told


def test_a_group_that_fails_presses_no_longer(tmp_path: Path) -> None:
    told: list[bool] = []
    ledger = open_ledger(tmp_path, pressing=told.append, open_writer=Script(lost).open)
    with pytest.raises(LedgerUnavailable):
        ledger.append_intent(intent()).result()
    ledger.close()
    assert told == [True, True, False]


def test_while_one_group_is_written_the_next_presses_on(tmp_path: Path) -> None:
    told: list[bool] = []
    held = Held()
    ledger = open_ledger(tmp_path, pressing=told.append, open_writer=Script(held).open)
    first = ledger.append_intent(intent(1))
    assert held.begun.wait(30)
    second = ledger.append_intent(intent(2))
    assert told == [True, True]
    held.let_go.set()
    first.result()
    second.result()
    ledger.close()
    assert told == [True, True, True, False]
