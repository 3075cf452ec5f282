"""The command line as a process of its own, and a server started with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MINIVAULT = [sys.executable, "-m", "minivault.cli.main"]
SOURCES = Path(__file__).parent.parent.parent / "src"


def environment(**more: str) -> dict[str, str]:
    """This environment without a person's settings; sources come before anything installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINIVAULT_")}
    return {**kept, "PYTHONPATH": str(SOURCES), "PYTHONWARNINGS": "error", **more}


def minivault(*arguments: str, stdin: str | bytes = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Output is decoded strictly."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*MINIVAULT, *arguments], input=given, capture_output=True, env=environment(**more), timeout=120, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def on_terminal(command: list[str], typed: str) -> str:
    """Run a command whose standard streams are a terminal, with this typed; what the terminal showed."""
    here, there = os.openpty()
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment()) as process:
        os.close(there)
        os.write(here, typed.encode())
        shown = b""
        try:
            while piece := os.read(here, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(here)
            _end(process)
    return shown.decode()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, but not for ever, as the end of its block would: also where the test has run out of time."""
    try:
        process.wait(60)
    finally:
        process.kill()


@dataclass
class RunningServer:
    url: str
    data_dir: Path
    process: subprocess.Popen[str]


@contextmanager
def serving(data_dir: Path, *arguments: str, stopped: bool = False) -> Iterator[RunningServer]:
    """A server on a free port, its model loaded; told to stop at the end, which must be a clean one.

    ``stopped``: the block tells it to stop itself, and a second signal would not be clean.
    """
    command = [*MINIVAULT, "serve", "--port", "0", "--data-dir", str(data_dir), "--log-level", "info", *arguments]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        rest = threading.Thread(target=process.stderr.read)
        try:
            url = _read_until(process.stderr, r"listens on (\S+)")
            _read_until(process.stderr, r"(model (\S+ )?loaded)")
            # Read on, or the server would wait for room in the pipe.
            rest.start()
            yield RunningServer(url, data_dir, process)
            if not stopped:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            if rest.is_alive():
                rest.join()


def _read_until(lines: Iterator[str], pattern: str) -> str:
    seen = []
    for line in lines:
        seen.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError("the server ended:\n" + "".join(seen))
