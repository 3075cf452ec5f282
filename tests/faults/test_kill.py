"""``kill -9`` amid recording, many times over one vault: what had a receipt is there, what had begun is ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.verify import verify

ROUNDS = 25
STREAMS = 8


def run_and_kill(folder: Path, chance: random.Random) -> list[list[str]]:
    """Let a process record until it has printed some receipts, kill it, and give all that it had printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(Path(__file__).with_name("appender.py")), str(folder), str(STREAMS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1 + chance.randrange(60))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    # A line cut short by the kill was never read by anyone.
    return [line.decode().split() for line in lines[1:] if line.endswith(b"\n")]


def receipts_hold(reader: Reader, receipts: list[list[str]]) -> None:
    for word, request_id, index, leaf in receipts:
        detail = reader.get(int(index))
        assert detail.call.id == request_id
        assert detail.call.prompt == f"prompt of {request_id}"
        if word == "begun":
            assert detail.intent_leaf == leaf
        else:
            assert (detail.outcome_leaf, detail.call.response) == (leaf, f"answer to {request_id}")


def mirrored(folder: Path) -> list[int]:
    files = [path for path in (folder / "logs").iterdir() if path.suffix != ".jsonl"]
    files = [*sorted(files, key=lambda path: int(path.suffix[1:])), folder / "logs" / "log.jsonl"]
    return [json.loads(line)["index"] for path in files for line in path.read_text("utf-8").splitlines()]


def test_what_was_acknowledged_is_there_after_every_kill(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - where to kill, the same in each run
    receipts: list[list[str]] = []
    reader = Reader.open(tmp_path / "vault.db")
    for _ in range(ROUNDS):
        new = run_and_kill(tmp_path, chance)
        receipts_hold(reader, new)
        receipts += new
    ledger = Ledger.open(tmp_path / "vault.db", mirror_dir=tmp_path / "logs", mirror_max_bytes=1 << 16)
    ledger.close()
    receipts_hold(reader, receipts)
    assert len(receipts) > ROUNDS
    report = verify(reader)
    assert (report.findings, report.open_calls) == ((), 0)
    ended = [call.outcome_index for call in reader.walk()]
    assert mirrored(tmp_path) == sorted(index for index in ended if index is not None)
    assert {call.finish_reason for call in reader.walk()} == {"stop", "interrupted"}
    reader.close()
