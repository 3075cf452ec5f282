"""The core's team of threads: a member without a core keeps nobody waiting, one that fails leaves nobody behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("sanitized", [False, True], ids=["plain", "thread sanitizer"])
def test_phases_are_whole_failures_come_out_and_the_team_goes_on(tmp_path: Path, sanitized: bool) -> None:
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path / "team"
    sources = [ROOT / "tests" / "native" / "team.cpp", ROOT / "native" / "threads.cpp"]
    options = ["-fsanitize=thread", "-g"] if sanitized else []
    built = subprocess.run(
        ["c++", "-std=c++20", "-O1", "-pthread", *options, *sources, "-o", program], capture_output=True, text=True
    )
    if sanitized and built.returncode and "tsan" in built.stderr:
        pytest.skip("this compiler has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    ended = subprocess.run([program], capture_output=True, text=True, timeout=120)
    if sanitized and "unexpected memory mapping" in ended.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "every phase was whole, every failure came out, and every team went on\n"
