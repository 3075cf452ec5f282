"""What the figures were taken on: processor, memory bandwidth, and how much others used it meanwhile.

Reads ``/proc``, so Linux alone. Knows nothing of engines.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    processor: str
    cores: int
    memory_bytes: int
    features: tuple[str, ...]
    system: str
    bandwidth: float
    """Bytes per second that ``threads`` threads read from memory, best of several passes."""


_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


def read_machine(threads: int, build_dir: Path) -> Machine:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set((facts.get("flags") or facts.get("Features", "")).split())
    numbers = f"family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else ""
    return Machine(
        processor=", ".join(filter(None, [facts.get("model name", platform.machine()), numbers])),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        features=tuple(name for name in _FEATURES if name in flags),
        system=f"Linux {platform.release().partition('-')[0]}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        bandwidth=read_bandwidth(threads, build_dir),
    )


def read_bandwidth(threads: int, build_dir: Path) -> float:
    """Bytes per second. Compiles the probe on its first call.

    Raises:
        RuntimeError: no compiler.
    """
    source, program = Path(__file__).with_name("bandwidth.cpp"), build_dir / "bandwidth"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if compiler is None:
            raise RuntimeError("a C++ compiler is needed to measure the memory's bandwidth; name it with CXX")
        build_dir.mkdir(parents=True, exist_ok=True)
        flags = ["-O3", "-march=native", "-std=c++20", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)  # noqa: S603
    output = subprocess.run([str(program), str(threads), "1024"], check=True, capture_output=True)  # noqa: S603
    return float(output.stdout)


_QUIET_SECONDS = 3.0


class Others:
    """How many cores other processes use, between making this and asking it; our children count once they ended."""

    def __init__(self, *, niced: bool = True) -> None:
        """``niced``: count processes of low priority too."""
        self._niced = niced
        self._started = time.monotonic()
        self._busy = _busy_seconds(niced)
        self._own = _own_seconds()

    def cores(self) -> float:
        elapsed = time.monotonic() - self._started
        used = _busy_seconds(self._niced) - self._busy - (_own_seconds() - self._own)
        return max(0.0, used / elapsed)


def wait_for_quiet(most_cores: float, most_seconds: float) -> float:
    """Wait until others use less than ``most_cores`` for some seconds on end, or time is up; the last figure.

    Processes of low priority use what is idle and give way to a measurement, so they do not count here.
    """
    deadline = time.monotonic() + most_seconds
    while True:
        others = Others(niced=False)
        time.sleep(min(_QUIET_SECONDS, max(1.0, most_seconds)))
        cores = others.cores()
        if cores <= most_cores or time.monotonic() >= deadline:
            return cores


def _busy_seconds(niced: bool) -> float:
    """Of all cores since the start of the machine, with what the host took away."""
    first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, first)
    return (user + (nice if niced else 0) + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
