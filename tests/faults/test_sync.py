"""Failed syncs as the kernel reports them: ``strace`` lets real ``fsync`` and ``fdatasync`` calls fail with EIO."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.verify import verify

STREAMS, CALLS = 4, 15


def traced(folder: Path, which: str) -> list[list[str]]:
    """Run the appender with failing syncs; gives what it printed."""
    program = [sys.executable, str(Path(__file__).with_name("appender.py")), str(folder), str(STREAMS), str(CALLS)]
    inject = f"inject=fsync,fdatasync:error=EIO:when={which}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject, *program]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if "ptrace" in ended.stderr or "PTRACE" in ended.stderr:
        pytest.skip("this system does not let strace trace")
    assert ended.returncode == 0, ended.stderr
    return [line.split() for line in ended.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("which", ["30", "25+7", "20..23"])
def test_a_failed_sync_is_never_a_receipt(tmp_path: Path, which: str) -> None:
    said = traced(tmp_path, which)
    assert [words for words in said if words[0] == "failed"], "no sync has failed: the test proves nothing"
    assert [words for words in said if words[0] == "ended"], "service has not resumed"
    Ledger.open(tmp_path / "vault.db", mirror_dir=None).close()
    reader = Reader.open(tmp_path / "vault.db")
    for word, request_id, index, leaf in [words for words in said if words[0] in ("begun", "ended")]:
        detail = reader.get(int(index))
        assert detail.call.id == request_id
        assert leaf == (detail.intent_leaf if word == "begun" else detail.outcome_leaf)
    report = verify(reader)
    assert (report.findings, report.open_calls) == ((), 0)
    reader.close()
