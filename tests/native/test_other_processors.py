"""The core on another processor gives the bits that it gives here: scalar and NEON on AArch64, under qemu-user."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = [
    *("matrix", "model", "packed_file", "packed_weights", "rope", "sampler", "threads"),
    "kernels/scalar",
]
FLAGS = ["-std=c++20", "-O2", "-ffp-contract=off", "-static", "-pthread"]
CROSS = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


def build(compiler: str, output: Path, kernels: list[str]) -> Path:
    sources = [str(ROOT / "native" / f"{name}.cpp") for name in [*CORE, *kernels]]
    command = [compiler, *FLAGS, *sources, str(ROOT / "tests" / "native" / "digest.cpp"), "-o", str(output)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return output


def run(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
def test_neon_and_scalar_on_aarch64_give_the_bits_of_this_machine(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("compares with an x86-64 machine")
    for tool in (CROSS, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)")
    compiler = shutil.which("c++") or "g++"
    native = build(compiler, tmp_path / "native", [])
    foreign = build(CROSS, tmp_path / "foreign", ["kernels/neon"])
    expected = run(str(native), "scalar", "1")
    assert len(expected) == 12
    assert run(EMULATOR, str(foreign), "scalar", "1") == expected
    assert run(EMULATOR, str(foreign), "neon", "2") == expected
