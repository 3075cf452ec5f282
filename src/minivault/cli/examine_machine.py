"""Looks at the machine, the disk of the data directory, and the clock.

Changes nothing but a small file in the data directory that it removes again. Knows nothing of what a vault holds.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minivault.cli.examine_findings import Finding, Verdict
from minivault.control_group import spare_memory, usable_cores
from minivault.errors import MiniVaultError
from minivault.processes import windows_memory

if TYPE_CHECKING:
    from minivault.settings import Settings

SYNCS = 12
SYNC_TOO_QUICK = 30e-6
"""No disk is durable so soon: a cache answers, or nothing is kept at all."""
SYNC_SLOW = 0.05
LITTLE_ROOM = 1 << 30
NO_ROOM = 64 << 20
COPY_BYTES = 256 << 20
SLOW_COPY = 3e9
FORGETFUL = ("tmpfs", "ramfs", "overlay")
FAR = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph")


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """Takes a second or two."""
    for look in (_machine, _disk, _clock):
        yield from look(settings)


def _machine(settings: Settings) -> Iterator[Finding]:
    yield _kernels(settings)
    cores = usable_cores()
    many = settings.threads > cores
    advice = f"threads is {settings.threads}, more than there are cores: set it to 0." if many else ""
    yield Finding("machine", "cores", "warn" if many else "ok", str(cores), advice)
    yield _memory()
    rate = _copy_rate()
    slow = rate < SLOW_COPY
    advice = "This bounds the tokens a second; is the machine busy, or shared?" if slow else ""
    found = f"one core copies {rate / 2**30:.1f} GiB/s"
    yield Finding("machine", "memory bandwidth", "warn" if slow else "ok", found, advice)


def _kernels(settings: Settings) -> Finding:
    try:
        from minivault.engine.native.runner import choose_kernels
    except ImportError:
        return Finding("machine", "native engine", "fail", "not built", "Run make, with a C++20 compiler installed.")
    try:
        kernels = choose_kernels(settings.kernels)
    except MiniVaultError as error:
        return Finding("machine", "kernels", "fail", error.message, "Set kernels to auto.")
    advice = "It works, slowly: this processor has no AVX2 and no NEON." if kernels == "scalar" else ""
    return Finding("machine", "kernels", "warn" if advice else "ok", kernels, advice)


def _memory() -> Finding:
    facts = _meminfo()
    if facts is None:
        return Finding("machine", "memory", "ok", "not known here")
    total, free = facts
    spare = spare_memory()
    free = free if spare is None else min(free, spare)
    found = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    little = free < LITTLE_ROOM
    advice = "Little is left for models and their KV cache: close something, or set memory_budget." if little else ""
    return Finding("machine", "memory", "warn" if little else "ok", found, advice)


def _meminfo() -> tuple[int, int] | None:
    """Bytes in all, and those that can be had; ``None`` where the system does not say."""
    windows = windows_memory()
    if windows is not None:
        return windows
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return facts["MemTotal"], facts["MemAvailable"]
    except (OSError, LookupError, ValueError):
        return None


def _copy_rate() -> float:
    """Bytes read a second while memory is copied: the best of three, both places touched before."""
    source, target = bytearray(COPY_BYTES), memoryview(bytearray(COPY_BYTES))

    def copy() -> None:
        target[:] = source

    copy()
    return COPY_BYTES / min(_seconds(copy) for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding("disk", "data directory", "ok", f"{folder} is not there yet; the first start makes it")
        return
    yield _file_system(folder)
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "fail" if free < NO_ROOM else "warn" if free < LITTLE_ROOM else "ok"
    advice = "" if verdict == "ok" else "A full disk means no answers: make room, or set retention."
    yield Finding("disk", "room", verdict, f"{free / 2**30:.1f} GiB free", advice)
    yield _sync(folder)


def _file_system(folder: Path) -> Finding:
    kind = _kind_of_file_system(folder)
    if kind in FAR:
        advice = "The vault must not lie on a network's file system: SQLite's log needs a disk of this machine."
        return Finding("disk", "file system", "fail", kind, advice)
    if kind in FORGETFUL:
        advice = "What lies here may be gone at the next start. Put the data directory on a disk or a volume."
        return Finding("disk", "file system", "warn", kind, advice)
    return Finding("disk", "file system", "ok", kind or "not known here")


def _kind_of_file_system(folder: Path) -> str:
    """As the system names it; empty where it does not say."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    here = folder.resolve()
    under = [(mount[1], mount[2]) for mount in mounts if here.is_relative_to(mount[1].replace("\\040", " "))]
    return max(under, key=lambda mount: len(mount[0]), default=("", ""))[1]


def _sync(folder: Path) -> Finding:
    """How long a small write takes to become durable. Each record waits for it; many share one."""
    try:
        times = _sync_times(folder)
    except OSError as error:
        advice = "The data directory must be writable for who runs the server."
        return Finding("disk", "sync", "fail", f"cannot be written ({error.strerror})", advice)
    middle = statistics.median(times)
    advice = ""
    if middle < SYNC_TOO_QUICK:
        advice = "That is too quick to be true: records may not survive a loss of power. Is this a RAM disk?"
    elif middle > SYNC_SLOW:
        advice = "Each first token waits for this: put the data directory on a faster disk."
    found = f"{middle * 1000:.2f} ms in the median, {max(times) * 1000:.1f} ms at most"
    return Finding("disk", "sync", "warn" if advice else "ok", found, advice)


def _sync_times(folder: Path) -> list[float]:
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            file.flush()
            times.append(_seconds(lambda: os.fsync(file.fileno())))
    return times


def _clock(settings: Settings) -> Iterator[Finding]:
    now = time.time()
    newest = settings.vault_path.stat().st_mtime if settings.vault_path.exists() else 0.0
    if now < 1_700_000_000 or now < newest - 60:
        advice = "Records would bear wrong times. Set the clock, or let it be kept by a time service."
        yield Finding("machine", "clock", "warn", "behind what was written before", advice)
    else:
        yield Finding("machine", "clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))
