"""A process that dies at every single write and sync of a fixed script, before it or with half of it done."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from minivault.vault.database import Writer
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.faults.disk import Disk
from tests.vault.samples import intent, open_ledger, outcome, record_calls

CALLS = 2


def run_script(folder: Path, disk: Disk, say: int) -> None:
    """Two calls; each receipt is said once it is there."""
    ledger = open_ledger(folder, open_writer=partial(Writer.open, vfs=disk.name), receipt_deadline=60)
    for number in range(CALLS):
        begun = ledger.append_intent(intent(number)).result(60)
        os.write(say, json.dumps([begun.index, begun.leaf]).encode() + b"\n")
        ended = ledger.append_outcome(outcome(begun.index)).result(60)
        os.write(say, json.dumps([ended.index, ended.leaf]).encode() + b"\n")
    ledger.close()


def in_a_process_of_its_own(folder: Path, kill_at: int | None, torn: bool) -> tuple[int, list[list[object]]]:
    """How it ended (0: well), and the receipts that it had said."""
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run_script(folder, Disk(kill_at=kill_at, torn=torn), say)
            status = 0
        finally:
            os._exit(status)
    os.close(say)
    with os.fdopen(hear, "rb") as said:
        receipts = [json.loads(line) for line in said if line.endswith(b"\n")]
    _, status = os.waitpid(child, 0)
    return status, receipts


@pytest.mark.parametrize("torn", [False, True], ids=["before it", "half done"])
def test_a_kill_at_any_write_or_sync(tmp_path: Path, torn: bool) -> None:
    kill_at = 0
    while True:
        folder = tmp_path / str(kill_at)
        status, receipts = in_a_process_of_its_own(folder, kill_at, torn)
        ledger = open_ledger(folder)
        record_calls(ledger, 1)
        ledger.close()
        reader = Reader.open(folder / "vault.db")
        for index, leaf in receipts:
            detail = reader.get(str(index))
            assert leaf in (detail.intent_leaf, detail.outcome_leaf)
        report = verify(reader)
        reader.close()
        assert (report.findings, report.open_calls) == ((), 0), f"killed at {kill_at}"
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kill_at += 1
    assert kill_at > 4 * CALLS
    assert len(receipts) == 2 * CALLS
