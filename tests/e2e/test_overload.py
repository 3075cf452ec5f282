"""256 streams that are open and more that arrive: those that were taken end whole, the rest are told to come back."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import Server, serving
from tests.fakes import until

RUNNING, OPEN, MORE = 32, 256, 128
LONG, SHORT = 400, 24
"""Tokens of the answers that hold the engine until all have come, and of those that wait behind them."""
KV_MEMORY, FLAT = 96, 32
"""MiB of KV memory, all of which comes into use, and of all else that resident memory may grow by."""


def resident(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1])


async def one(client: httpx.AsyncClient, number: int, opened: list[int], tokens: int = SHORT) -> str:
    body = {"prompt": "Tell me a story.", "seed": number, "max_tokens": tokens, "ignore_eos": True}
    async with client.stream("POST", "/generate/stream", json=body) as response:
        if response.status_code != 200:
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 300
            return "refused"
        opened.append(number)
        pieces = [json.loads(line) async for line in response.aiter_lines()]
    assert pieces[-1]["done"]
    assert pieces[-1]["usage"]["completion_tokens"] == tokens
    return "whole"


async def flood(url: str) -> Counter[str]:
    """How `OPEN + MORE` streams ended, of which the first hold the engine until all have come."""
    opened: list[int] = []
    limits = httpx.Limits(max_connections=OPEN + MORE)
    async with httpx.AsyncClient(base_url=url, timeout=280, limits=limits) as client:
        streams = [asyncio.create_task(one(client, number, opened, LONG)) for number in range(RUNNING)]
        await until(lambda: len(opened) == RUNNING)
        streams += [asyncio.create_task(one(client, 100 + number, opened)) for number in range(OPEN - RUNNING)]
        streams += [asyncio.create_task(one(client, 1000 + number, opened)) for number in range(MORE)]
        return Counter(await asyncio.gather(*streams))


@pytest.mark.slow
def test_with_256_streams_open_those_taken_end_whole_and_the_rest_are_refused(tmp_path: Path) -> None:
    bounds = (
        "--max-running",
        str(RUNNING),
        "--max-waiting",
        str(OPEN - RUNNING),
        "--kv-cache-memory",
        str(KV_MEMORY << 20),
    )
    with serving(tmp_path / "data", *bounds) as server:
        before = resident(server)
        ends = asyncio.run(flood(server.url))
        after = resident(server)
    print(dict(ends), before, after)
    assert set(ends) == {"whole", "refused"}
    assert ends["whole"] >= OPEN
    assert after - before < (KV_MEMORY + FLAT) * 1024
