"""What the system lets this process have: the limits of its control groups, as containers and services set them.

Both versions of Linux's control groups are read, this process's own group and all above it; where there are none,
nothing is limited. Source: the kernel's ``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1``. Knows nothing of
who asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 60
"""Bytes that no machine has: what version 1 says where it limits nothing."""


def usable_cores(mounted: Path = MOUNTED, own: Path = OWN) -> int:
    """Cores that this process may use: those of its affinity, and no more than its share of time, rounded up, fills."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _folders("cpu", mounted, own):
        quota, period = _time_share(folder)
        if quota > 0 and period > 0:
            cores = min(cores, -(-quota // period))
    return max(1, cores)


def spare_memory(mounted: Path = MOUNTED, own: Path = OWN) -> int | None:
    """Bytes left until a group of this process runs out; ``None``: none limits it."""
    found: list[int] = []
    for folder in _folders("memory", mounted, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None and most < NO_LIMIT:
                found.append(max(0, most - now + _given_up_easily(folder)))
    return min(found, default=None)


def _folders(controller: str, mounted: Path, own: Path) -> Iterator[Path]:
    """The group of this process under a controller, and the groups above it, in both versions."""
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mounted / controller if controllers else mounted
        group = root / path.strip("/")
        # In a container the path may be that of the host, which is not here in whole or in part.
        while group != root and (".." in group.parts or not group.is_dir()):
            group = group.parent
        yield group
        yield from (above for above in group.parents if above == root or root in above.parents)


def _time_share(folder: Path) -> tuple[int, int]:
    """Microseconds of cores' time in each period, and the period; 0 or less: not limited."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return (0 if quota == "max" else int(quota)), int(period)
    except (OSError, ValueError):
        return _number(folder / "cpu.cfs_quota_us") or 0, _number(folder / "cpu.cfs_period_us") or 0


def _given_up_easily(folder: Path) -> int:
    """Bytes of files in the group's memory that the system takes back before anything runs out."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
