"""A real Redis for the length of a block, on a socket of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class RunningRedis:
    url: str
    process: subprocess.Popen[str]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nothing within the block, and afterwards reads what it was sent meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(folder: Path) -> Iterator[RunningRedis]:
    """Skips the test where there is no redis-server, or no client for it."""
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server on the path")
    path = folder / "socket"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "eady to accept" in line:
                    break
            yield RunningRedis(f"unix://{path}", process)
        finally:
            process.terminate()
