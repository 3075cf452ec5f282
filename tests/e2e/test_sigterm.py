"""SIGTERM under load, again and again on one vault: what a client was told is complete is complete and on record.

A few here; MINIVAULT_SIGTERMS=200 for the figures of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from minivault.vault.reader import CallFilter, Reader
from tests.e2e.server import Server

SIGTERMS = int(os.environ.get("MINIVAULT_SIGTERMS") or 3)
STREAMS = 12


class Told:
    """What one client got: the text, and whether the stream was called complete."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.complete = False
        self.failed = False

    def take(self, line: str) -> None:
        if line in ("", "data: [DONE]"):
            self.complete = self.complete or bool(line)
            return
        piece = json.loads(line.removeprefix("data: "))
        if "error" in piece:
            self.failed = True
        elif "choices" in piece:
            self.text += "".join(choice["delta"].get("content") or "" for choice in piece["choices"])
        else:
            self.text += piece.get("token", piece.get("response", ""))
            self.complete = self.complete or piece.get("done", False)


async def listen(client: httpx2.AsyncClient, told: Told, number: int, begun: asyncio.Event) -> None:
    limits = {"max_tokens": 3 + 17 * number, "ignore_eos": True}
    body = {"prompt": "Tell me a story.", "stream": True} | limits
    chat = {"model": "guide", "messages": [{"role": "user", "content": "A story, please."}], "stream": True} | limits
    path, asked = [("/generate", body), ("/generate/stream", body), ("/v1/chat/completions", chat)][number % 3]
    try:
        async with client.stream("POST", path, json=asked, headers={"X-Request-ID": told.name}) as response:
            if response.status_code != 200:
                return
            async for line in response.aiter_lines():
                told.take(line)
                begun.set()
    except httpx2.TransportError:
        begun.set()  # cut, as nothing that was called complete


async def one_round(server: Server, round_number: int, wait: float) -> list[Told]:
    everything = [Told(f"r{round_number}-{number}") for number in range(STREAMS)]
    begun = asyncio.Event()
    async with httpx2.AsyncClient(base_url=server.url, timeout=600) as client:
        listening = [asyncio.create_task(listen(client, told, at, begun)) for at, told in enumerate(everything)]
        await begun.wait()
        await asyncio.sleep(wait)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*listening)
    return everything


def check(reader: Reader, told: Told) -> str:
    calls = [call for call in reader.list(CallFilter(), limit=1000).calls if call.id == told.name]
    if not calls:
        assert not told.text, "text without a record"
        assert not told.complete
        return "refused"
    [call] = calls
    assert call.finish_reason is not None, "a call without an outcome"
    if told.complete:
        assert not told.failed
        assert call.finish_reason in ("stop", "length")
        assert told.text == call.response
        return "complete"
    assert call.finish_reason in ("failed", "cancelled")
    assert (call.response or "").startswith(told.text)
    return "told that it failed" if told.failed else "cut"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_stream_that_is_called_complete_is_whole_however_the_server_was_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    chance = random.Random(11)  # noqa: S311 - repeatable on purpose
    ends: Counter[str] = Counter()
    for round_number in range(SIGTERMS):
        server = Server(data, "--shutdown-timeout", chance.choice(["0", "0.1", "0.4", "30"]))
        try:
            everything = asyncio.run(one_round(server, round_number, chance.random() * 0.5))
            assert server.process.wait(timeout=240) == 0, server.log.read_text()
        finally:
            server.kill()
        reader = Reader.open(data / "vault.db")
        try:
            ends.update(check(reader, told) for told in everything)
        finally:
            reader.close()
    print(dict(ends))
    assert ends["complete"]
    assert sum(ends.values()) == SIGTERMS * STREAMS
