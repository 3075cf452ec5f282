"""A second SIGTERM while the first one's drain waits: an end at once, like kill -9, that loses nothing acknowledged."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2

from minivault.vault.calls import CallFilter
from minivault.vault.reader import Reader
from tests.e2e.server import PATIENCE, READY_SECONDS, Server, serving

ENDLESS: dict[str, Any] = {
    "prompt": "a",
    "stream": True,
    "temperature": 5,
    "ignore_eos": True,
    "max_tokens": 900,
    "seed": 7,
}


def cut_by_two_signals(server: Server) -> list[str]:
    """The lines of a stream that runs while both come; between them the server says that it stops."""
    lines: list[str] = []
    try:
        with httpx2.stream("POST", f"{server.url}/generate", json=ENDLESS, timeout=PATIENCE) as stream:
            for line in stream.iter_lines():
                if not lines:
                    server.process.send_signal(signal.SIGTERM)
                    while httpx2.get(f"{server.url}/readyz", timeout=PATIENCE).status_code != 503:
                        pass
                    server.process.send_signal(signal.SIGTERM)
                lines.append(line)
    except httpx2.TransportError:
        return lines
    raise AssertionError("the stream came to an end")


def test_a_second_sigterm_ends_at_once_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = Server(data)
    try:
        ask = {"prompt": "hi", "seed": 7, "max_tokens": 8}
        whole = httpx2.post(f"{server.url}/generate", json=ask, timeout=PATIENCE).json()
        lines = cut_by_two_signals(server)
        assert server.process.wait(timeout=READY_SECONDS) != 0
    finally:
        server.kill()
    assert not any("[DONE]" in line or "finish_reason" in line for line in lines)
    with serving(data):
        pass
    reader = Reader.open(data / "vault.db")
    try:
        cut, kept = reader.list(CallFilter(), limit=10).calls
    finally:
        reader.close()
    assert (kept.id, kept.response, kept.finish_reason) == (whole["id"], whole["response"], whole["finish_reason"])
    assert cut.finish_reason == "interrupted"
    assert json.loads(lines[0].removeprefix("data: "))["index"] == 0
