"""A real ``minivault serve`` in a process of its own, on a port of its own. Knows nothing of what is asked of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

_LISTENS = re.compile(r"listens on (http://\S+)")
PATIENCE = 120
"""Seconds in which any answer comes; the client's own five are too few on a busy machine."""
READY_SECONDS = 240
"""Generous: a machine that does much else takes a minute for what is done in one second here."""
MINIVAULT = (sys.executable, "-m", "minivault.cli.main")


class Server:
    """A running server. ``url`` is where it listens."""

    def __init__(self, data_dir: Path, *flags: str, program: Sequence[str] = MINIVAULT) -> None:
        command = [*program, "serve", "--port", "0", "--data-dir", str(data_dir)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MINIVAULT_")}
        self.log = data_dir.parent / f"{data_dir.name}.serve.log"
        with self.log.open("ab") as log:
            start = self.log.stat().st_size
            self.process = subprocess.Popen(
                [*command, "--rate-limit", "", *flags], stdout=log, stderr=log, env=environment
            )
        try:
            self.url = self._wait_for_url(start)
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=READY_SECONDS)

    def _wait_for_url(self, start: int) -> str:
        for _ in self._tries():
            found = _LISTENS.search(self.log.read_bytes()[start:].decode())
            if found:
                return found[1]
        raise AssertionError(f"no server: {self.log.read_text()}")

    def _wait_until_ready(self) -> None:
        for _ in self._tries():
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=PATIENCE).status_code == 200:
                    return
            except httpx2.TransportError:
                continue
        raise AssertionError(f"the server did not get ready: {self.log.read_text()}")

    def _tries(self) -> Iterator[None]:
        """Polls, since another process cannot tell us; ends with the process or the deadline."""
        deadline = time.monotonic() + READY_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            yield
            time.sleep(0.02)


@contextmanager
def serving(data_dir: Path, *flags: str) -> Iterator[Server]:
    """A server for the length of a block; at its end it is asked to stop, and must do so cleanly."""
    server = Server(data_dir, *flags)
    try:
        yield server
        assert server.stop() == 0, server.log.read_text()
    finally:
        server.kill()
