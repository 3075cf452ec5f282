"""256 streams that are open and more that arrive: those that were taken end whole, the rest are told to come back."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import Server, serving
from tests.fakes import until

RUNNING, OPEN, MORE, WAVES = 32, 256, 128, 20
LONG, SHORT = 400, 24
"""Tokens of the answers that hold the engine, and of those that wait behind them."""
KV_MEMORY, FLAT = 96, 32
"""MiB of KV memory, all of which comes into use, and of all else that resident memory may grow by."""


def resident(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1])


@dataclass
class Told:
    """What became of those that have arrived."""

    opened: int = 0
    refused: int = 0
    broke: bool = False

    def hear(self, stream: asyncio.Task[str]) -> None:
        self.broke |= stream.exception() is not None

    @property
    def all(self) -> int:
        return self.opened + self.refused


async def one(client: httpx2.AsyncClient, number: int, told: Told, tokens: int) -> str:
    body = {"prompt": "Tell me a story.", "seed": number, "max_tokens": tokens, "ignore_eos": True}
    async with client.stream("POST", "/generate/stream", json=body) as response:
        if response.status_code != 200:
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 300
            told.refused += 1
            return "refused"
        told.opened += 1
        pieces = [json.loads(line) async for line in response.aiter_lines()]
    assert pieces[-1]["done"]
    assert pieces[-1]["usage"]["completion_tokens"] == tokens
    return "whole"


async def flood(url: str) -> Counter[str]:
    """How `OPEN` streams ended and the waves of `MORE` after them, of which there are more until one is refused.

    On a machine that is faster than those who come to it, one wave after another finds room.
    """
    told, streams = Told(), list[asyncio.Task[str]]()
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=800, limits=limits) as client:

        async def arrive(count: int, tokens: int) -> None:
            first = len(streams)
            streams.extend(asyncio.create_task(one(client, first + at, told, tokens)) for at in range(count))
            for stream in streams[first:]:
                stream.add_done_callback(told.hear)
            await until(lambda: told.all == len(streams) or told.broke)

        await arrive(RUNNING, LONG)
        await arrive(OPEN - RUNNING, SHORT)
        for _ in range(WAVES):
            await arrive(MORE, LONG)
            if told.refused:
                break
        return Counter(await asyncio.gather(*streams))


@pytest.mark.slow
@pytest.mark.timeout(900)
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
