from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minivault.processes import is_running

COUNTS_HEAPS = """
import ctypes, os, tempfile, threading
from minivault.processes import share_heaps

print(share_heaps())
library = ctypes.CDLL(None)
library.malloc.restype = library.fopen.restype = ctypes.c_void_p
library.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
library.fclose.argtypes = [ctypes.c_void_p]
all_there = threading.Barrier(8)

def take() -> None:
    library.malloc(100_000)
    all_there.wait(60)

threads = [threading.Thread(target=take) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with tempfile.NamedTemporaryFile() as file:
    told = library.fopen(file.name.encode(), b"w")
    library.malloc_info(0, told)
    library.fclose(told)
    print(file.read().count(b"<heap nr="))
"""


def heaps(**environment: str) -> tuple[bool, int]:
    """Whether a limit was set, and the heaps of a process with nine threads."""
    known = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    run = subprocess.run(
        [sys.executable, "-c", COUNTS_HEAPS], env=known | environment, stdout=subprocess.PIPE, check=True, text=True
    )
    was_set, count = run.stdout.split()
    return was_set == "True", int(count)


@pytest.mark.skipif(
    sys.platform != "linux" or "gnu" not in str(sys.implementation),
    reason="only glibc gives threads heaps of their own",
)
def test_threads_share_two_heaps_unless_the_environment_says_otherwise() -> None:
    assert heaps() == (True, 2)
    was_set, count = heaps(MALLOC_ARENA_MAX="5")
    assert not was_set
    assert 2 < count <= 5


def test_this_process_runs_and_one_that_ended_does_not() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        assert is_running(os.getpid())
        ended.wait()
    assert not is_running(ended.pid)
