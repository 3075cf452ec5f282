"""The core's team of threads: a member that fails neither ends the process nor leaves the others behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_member_that_fails_is_heard_of_and_the_team_goes_on(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path / "team"
    sources = [ROOT / "tests" / "native" / "team.cpp", ROOT / "native" / "threads.cpp"]
    subprocess.run(["c++", "-std=c++20", "-O1", "-pthread", *sources, "-o", program], check=True)
    ended = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "every failure came out, and every team went on\n")
