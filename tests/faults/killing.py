"""Processes that die before the next thing that they do to a file: before the first, the second, and so on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_DEEDS = {"open", "os.rename", "os.remove"}


def killed_at(step: int, folder: Path, deed: Callable[[], object]) -> bool:
    """Do it in a process that dies before its deed of this number to a file of ``folder``; whether it died."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.addaudithook(_killer(step, str(folder)))
            deed()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def _killer(step: int, folder: str) -> Callable[[str, tuple[object, ...]], None]:
    left = step

    def hook(event: str, values: tuple[object, ...]) -> None:
        nonlocal left
        if event in _DEEDS and str(values[0]).startswith(folder):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
