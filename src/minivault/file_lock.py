"""Locks on open files, which the system lets go of when the process dies. Knows nothing of what they guard."""

from __future__ import annotations

import ctypes
import os
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # either, and asked for below

_LOCK_VIOLATION, _EXCLUSIVE, _AT_ONCE = 33, 2, 1
_FAR = 0x7FFFFFFF
"""High half of the place of the byte that is locked: beyond all content, since Windows' locks keep readers out."""


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed: alone, or ``shared`` with others that do so.

    Raises:
        BlockingIOError: another holds it, and ``wait`` was not said.
        OSError: it cannot be locked.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    else:
        _lock_on_windows(descriptor, shared=shared, wait=wait)


class _Place(ctypes.Structure):
    """Windows' OVERLAPPED, of which only the place counts here."""

    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("low", ctypes.c_uint32),
        ("high", ctypes.c_uint32),
        ("event", ctypes.c_void_p),
    )


def _lock_on_windows(descriptor: int, *, shared: bool, wait: bool) -> None:
    import msvcrt

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]  # there on Windows
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))  # type: ignore[attr-defined]
    flags = (0 if shared else _EXCLUSIVE) | (0 if wait else _AT_ONCE)
    if kernel.LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(_Place(high=_FAR))):
        return
    code = ctypes.get_last_error()  # type: ignore[attr-defined]
    if code == _LOCK_VIOLATION:
        raise BlockingIOError("the file is locked")
    raise OSError(code, os.strerror(code))
