"""``kill -9`` in the middle of streams: what was acknowledged is there, what had begun has an outcome.

Killing the process says nothing about lost power: what reached the kernel survives it. ``tests/faults`` goes further.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from pathlib import Path

import httpx2
import pytest

from minivault.vault.reader import CallFilter, Reader
from tests.e2e.server import Server, serving

ROUNDS = 50
STREAMS = 8


async def stream_until_killed(server: Server, seed: int, pieces: int) -> dict[int, tuple[str, str]]:
    """Eight streams: after ``pieces`` pieces the server is killed. What was acknowledged by index: text, leaf."""
    acknowledged: dict[int, tuple[str, str]] = {}
    seen = 0

    async def one(client: httpx2.AsyncClient, index: int) -> None:
        nonlocal seen
        # Of unequal length, so that some have ended when the blow falls.
        body = {"prompt": "Tell me a story.", "seed": seed + index, "max_tokens": 4 + 12 * index, "ignore_eos": True}
        text = ""
        async with client.stream("POST", "/generate/stream", json=body) as response:
            async for line in response.aiter_lines():
                piece = json.loads(line)
                text += piece["response"]
                if piece.get("done"):
                    acknowledged[piece["record"]["index"]] = (text, piece["record"]["leaf"])
                seen += 1
                if seen == pieces:
                    server.process.kill()

    async with httpx2.AsyncClient(base_url=server.url, timeout=240) as client:
        ends = await asyncio.gather(*(one(client, index) for index in range(STREAMS)), return_exceptions=True)
    server.kill()
    for end in ends:
        # The blow cuts connections (httpx2.RemoteProtocolError is one of these); anything else is a failure.
        if end is not None and not isinstance(end, httpx2.TransportError):
            raise end
    return acknowledged


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_dash_nine_50_times_loses_nothing_acknowledged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    chance = random.Random(20)  # noqa: S311 - repeatable on purpose
    acknowledged: dict[int, tuple[str, str]] = {}
    for round_number in range(ROUNDS):
        server = Server(data)
        found = asyncio.run(stream_until_killed(server, 1000 * round_number, chance.randint(1, 250)))
        assert not acknowledged.keys() & found.keys()
        acknowledged |= found
    assert acknowledged
    with serving(data):
        pass  # the start that mends what the last blow left

    calls = Reader.open(data / "vault.db")
    try:
        for index, (text, leaf) in acknowledged.items():
            detail = calls.get(str(index))
            assert (detail.call.response, detail.outcome_leaf) == (text, leaf)
        page = calls.list(CallFilter(), limit=1000)
        assert all(call.finish_reason is not None for call in page.calls)
        begun = len(page.calls)
        assert any(call.finish_reason == "interrupted" for call in page.calls)
    finally:
        calls.close()
    lines = [json.loads(line) for line in (data / "logs" / "log.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == begun
    with sqlite3.connect(data / "vault.db") as connection:
        assert connection.execute("SELECT count(*) FROM interactions").fetchone() == (begun,)
