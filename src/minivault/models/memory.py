"""How much memory this machine has to spare, and giving back what was freed. Knows nothing of models."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

from minivault.control_group import spare_memory
from minivault.processes import windows_memory

DEFAULT_SHARE = 0.75
"""Of the memory that is free at the start: what models may take where no budget is set."""


def free_memory() -> int:
    """Bytes that can be used without swapping, or without this process's control group running out."""
    windows = windows_memory()
    if windows is not None:
        return windows[1]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    spare = spare_memory()
    return free if spare is None else min(free, spare)


def budget_of(setting: int) -> int:
    """Bytes that all loaded models may take together; 0 takes a share of what is free now."""
    return setting or int(free_memory() * DEFAULT_SHARE)


def give_back() -> None:
    """Hand freed memory back to the system: the C library keeps it for this process otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # why: not every C library can, and then nothing is lost
        ctypes.CDLL(None).malloc_trim(0)


def readable(count: int) -> str:
    """Bytes for people: ``1.3 GiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1023.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
