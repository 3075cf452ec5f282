"""The core gives elsewhere the bits that it gives here: scalar and NEON on AArch64, under qemu-user, and Windows,
under wine."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = [
    *("adapters", "encoder", "matrix"),
    *("model", "model_attention", "model_phases", "model_step"),
    *("packed_file", "packed_weights", "pooling", "rope", "sampler", "threads"),
    "kernels/scalar",
]
AARCH64 = {
    "kernels/neon": "armv8-a",
    "kernels/neondot": "armv8.2-a+dotprod",
    "kernels/neoni8mm": "armv8.2-a+dotprod+i8mm",
}
FLAGS = ["-std=c++20", "-O2", "-ffp-contract=off", "-static", "-pthread"]
CROSS = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


def build(compiler: Sequence[str], output: Path, kernels: dict[str, str], system: str = "posix") -> Path:
    """``kernels``: sources that need a processor of their own, each with its ``-march``."""
    for name, processor in kernels.items():
        compile_with(
            compiler, "-c", f"-march={processor}", source(name), "-o", str(output.with_name(Path(name).stem + ".o"))
        )
    objects = [str(output.with_name(Path(name).stem + ".o")) for name in kernels]
    digest = str(ROOT / "tests" / "native" / "digest.cpp")
    compile_with(compiler, *map(source, CORE), source(f"platform_{system}"), digest, *objects, "-o", str(output))
    return output


def source(name: str) -> str:
    return str(ROOT / "native" / f"{name}.cpp")


def compile_with(compiler: Sequence[str], *arguments: str) -> None:
    built = subprocess.run([*compiler, *FLAGS, *arguments], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


def run(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_neon_and_scalar_on_aarch64_give_the_bits_of_this_machine(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("compares with an x86-64 machine")
    for tool in (CROSS, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)")
    native = build([shutil.which("c++") or "g++"], tmp_path / "native", {})
    foreign = build([CROSS], tmp_path / "foreign", AARCH64)
    expected = run(str(native), "scalar", "1")
    assert len(expected) == 16
    assert run(EMULATOR, str(foreign), "scalar", "1") == expected
    for kernels in ("neon", "neondot", "neoni8mm"):
        assert run(EMULATOR, "-cpu", "max", str(foreign), kernels, "2") == expected, kernels


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_windows_gives_the_bits_of_this_machine(tmp_path: Path) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("compares with Linux on x86-64")
    if importlib.util.find_spec("ziglang") is None or shutil.which("wine") is None:
        pytest.skip("ziglang (PyPI) or wine (Debian) is not installed")
    zig = [sys.executable, "-m", "ziglang", "c++", "--target=x86_64-windows-gnu", "-g0"]
    native = build([shutil.which("c++") or "g++"], tmp_path / "native", {})
    foreign = build(zig, tmp_path / "foreign.exe", {}, "windows")
    expected = run(str(native), "scalar", "1")
    assert len(expected) == 16
    assert run("wine", str(foreign), "scalar", "2") == expected
