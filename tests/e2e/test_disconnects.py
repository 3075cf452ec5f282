"""Clients of a real server that hang up at any moment: each call has its outcome, and nothing stays taken.

A few here; MINIVAULT_DISCONNECTS=1000 for the figures of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.vault.reader import CallFilter, Reader
from tests.e2e.server import PATIENCE, Server, serving

DISCONNECTS = int(os.environ.get("MINIVAULT_DISCONNECTS") or 40)
AT_ONCE = 24
LONG = "Once upon a time there was a small house by the sea. " * 20
TURN = [{"role": "user", "content": "Tell me a long story."}]
ENDLESS = {"max_tokens": 900, "ignore_eos": True}
STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"prompt": "Tell me a story.", "stream": True, **ENDLESS}),
    ("/generate/stream", {"prompt": LONG, "raw": True, "max_tokens": 500, "ignore_eos": True}),
    ("/generate-stream", {"prompt": "Tell me a story.", **ENDLESS}),
    ("/v1/chat/completions", {"model": "guide", "messages": TURN, "stream": True, **ENDLESS}),
    ("/v1/messages", {"model": "guide", "messages": TURN, "stream": True, "max_tokens": 300}),
    ("/api/chat", {"model": "guide", "messages": TURN}),
]


async def leave(client: httpx2.AsyncClient, number: int, chance: random.Random, gate: asyncio.Semaphore) -> str:
    """Ask, read a few parts or none, hang up. The head of a stream comes once its intent is durable."""
    path, body = chance.choice(STREAMS)
    parts = chance.choice((0, 0, 1, 3, 20))
    name = f"leaver-{number}"
    async with gate, client.stream("POST", path, json=body, headers={"X-Request-ID": name}) as response:
        assert response.status_code == 200, path
        reading = response.aiter_raw()
        for _ in range(parts):
            await anext(reading, None)
    return name


async def hang_up(server: Server) -> list[str]:
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(base_url=server.url, timeout=600) as client:
        names = await asyncio.gather(*(leave(client, number, chance, gate) for number in range(DISCONNECTS)))
    return list(names)


def wait_until_idle(server: Server) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while True:
        engine: dict[str, Any] = httpx2.get(f"{server.url}/health", timeout=PATIENCE).json()["engine"]
        if engine["running"] == engine["waiting"] == 0:
            return engine
        assert time.monotonic() < deadline, engine
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_call_whose_client_hangs_up_has_an_outcome_and_nothing_stays_taken(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        names = asyncio.run(hang_up(server))
        wait_until_idle(server)
    reader = Reader.open(data / "vault.db")
    try:
        found = [reader.get(name).call.finish_reason for name in names]
        cursor, total = None, 0
        while True:
            page = reader.list(CallFilter(), cursor=cursor, limit=1000)
            total += len(page.calls)
            cursor = page.next_cursor
            if cursor is None:
                break
    finally:
        reader.close()
    reasons = Counter(found)
    print(dict(reasons))
    assert total == DISCONNECTS == sum(reasons.values())
    assert set(reasons) <= {"cancelled", "stop", "length"}
    assert reasons["cancelled"], "how many were whole before their client had left is up to the machine"
