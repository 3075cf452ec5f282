"""Processes, and what systems do differently about them and their memory. Knows nothing of what they are asked for."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
_HEAPS = 2
_MAY_WAIT_FOR = 0x00100000
_DENIED = 5
_STILL_RUNS = 0x102


def is_running(process_id: int) -> bool:
    """Whether there is such a process on this machine, of whatever user."""
    if os.name == "nt":
        return _is_running_on_windows(process_id)
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def windows_memory() -> tuple[int, int] | None:
    """Bytes in all, and those that can be had; ``None`` where this is not Windows."""
    if os.name != "nt":
        return None
    status = _Memory(size=ctypes.sizeof(_Memory))
    if not _kernel().GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return status.total, status.available


def share_heaps() -> bool:
    """Let the threads of this process share two heaps, where glibc would give them eight for each core.

    What a thread frees goes back to its own heap, so each keeps the most that it ever held, and parts between that
    nobody can use. To be called before there are other threads. Whether anything was set: not where the system's
    allocator is another one, nor where the environment says something of it.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if os.name == "nt" or not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, _HEAPS))


class _Memory(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def _kernel() -> Any:
    return ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]  # there on Windows


def _is_running_on_windows(process_id: int) -> bool:
    """Not by a signal, which there ends the process, or all of its console."""
    kernel = _kernel()
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(_MAY_WAIT_FOR, 0, process_id)
    if not handle:
        return bool(ctypes.get_last_error() == _DENIED)  # type: ignore[attr-defined]
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == _STILL_RUNS)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
