"""Ctrl-C in the middle of answers: once drains, twice ends at once, and neither loses what was acknowledged."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import httpx2

from minivault.vault.reader import CallFilter, Reader
from tests.e2e.server import Server, serving

LONG = {"prompt": "Tell me a story.", "max_tokens": 900, "ignore_eos": True, "seed": 1}


def begun(server: Server) -> list[threading.Thread]:
    """Streams that are in the middle of their answers."""
    seen = [threading.Event() for _ in range(6)]

    def follow(event: threading.Event) -> None:
        try:
            with httpx2.stream("POST", f"{server.url}/generate-stream", json=LONG, timeout=60) as answer:
                for _ in answer.iter_raw():
                    event.set()
        except httpx2.TransportError:
            pass
        finally:
            event.set()

    threads = [threading.Thread(target=follow, args=(event,)) for event in seen]
    for thread in threads:
        thread.start()
    for event in seen:
        assert event.wait(60)
    return threads


def outcomes(data: Path) -> list[str | None]:
    reader = Reader.open(data / "vault.db")
    try:
        return [call.finish_reason for call in reader.list(CallFilter(), limit=100).calls]
    finally:
        reader.close()


def test_a_second_ctrl_c_ends_at_once_and_the_next_start_ends_the_calls(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--threads", "1")
    threads = begun(server)
    server.process.send_signal(signal.SIGINT)
    while "Stopping" not in server.log.read_text():
        assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 128 + signal.SIGINT
    for thread in threads:
        thread.join(30)
    with serving(tmp_path / "data"):
        pass
    assert None not in outcomes(tmp_path / "data")
    assert "interrupted" in outcomes(tmp_path / "data")


def test_one_ctrl_c_says_what_it_waits_for(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--threads", "1", "--shutdown-timeout", "0.2")
    threads = begun(server)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(60) == 0
    for thread in threads:
        thread.join(30)
    assert "still running" in server.log.read_text()
    assert set(outcomes(tmp_path / "data")) <= {"failed", "length"}
