"""``kill -9`` in the middle of eight streams: what was acknowledged is there, and what was begun has an end.

``KILL_ROUNDS=50`` in the environment does it fifty times.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from minivault.vault.reader import Reader

ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))
STREAMS = 8


@dataclass
class Server:
    """The real command in a process of its own."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "minivault.cli.main", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--rate-limit", "", "--threads", "1"]
        with (self.data_dir.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        with httpx.Client(base_url=self.url) as client:
            while not self._is_ready(client):
                assert self.process.poll() is None, (self.data_dir.parent / "server.log").read_text()

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@dataclass
class Asker:
    """Asks again and again in a stream, and keeps what it was told was finished."""

    url: str
    name: str
    begun: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Prompt, text and closing line of each answer that came to its end."""
    unfinished: list[str] = field(default_factory=list)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for turn in range(1_000_000):
                prompt = f"{self.name} asks {turn}"
                try:
                    self._ask(client, prompt, 5 + turn % 30)
                except httpx.HTTPError:
                    self.unfinished.append(prompt)
                    return

    def _ask(self, client: httpx.Client, prompt: str, max_tokens: int) -> None:
        body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
        pieces: list[str] = []
        with client.stream("POST", "/generate/stream", json=body) as response:
            for line in response.iter_lines():
                event = json.loads(line)
                pieces.append(event["response"])
                self.begun.set()
                if event.get("done"):
                    self.acknowledged.append((prompt, "".join(pieces), event))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return Server(data_dir, port)


def kill_in_the_middle(server: Server, number: int) -> list[Asker]:
    server.start()
    askers = [Asker(server.url, f"round {number} client {client}") for client in range(STREAMS)]
    threads = [threading.Thread(target=asker.run) for asker in askers]
    for thread in threads:
        thread.start()
    for asker in askers:
        assert asker.begun.wait(60)
    while not any(asker.acknowledged for asker in askers):
        threading.Event().wait(0.01)
    server.end(signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    return askers


@pytest.mark.slow
@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_a_killed_server_keeps_what_it_acknowledged_and_ends_what_it_began(server: Server) -> None:
    askers = [asker for number in range(ROUNDS) for asker in kill_in_the_middle(server, number)]
    server.start()
    assert server.end(signal.SIGTERM) == 0
    reader = Reader.open(server.data_dir / "vault.db")
    calls = {call.prompt: call for call in reader.walk()}
    acknowledged = [answer for asker in askers for answer in asker.acknowledged]
    assert len(acknowledged) >= ROUNDS
    for prompt, text, closing in acknowledged:
        detail = reader.get(closing["record"]["index"])
        assert (detail.call.prompt, detail.call.response, detail.call.finish_reason) == (prompt, text, "length")
        assert detail.outcome_leaf == closing["record"]["leaf"]
    assert all(call.finish_reason is not None for call in calls.values())
    cut = [calls[prompt] for asker in askers for prompt in asker.unfinished if prompt in calls]
    assert cut
    assert {call.finish_reason for call in cut} <= {"interrupted", "length"}
    lines = (server.data_dir / "logs" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["prompt"] for line in lines) == sorted(map(str, calls))
    reader.close()
