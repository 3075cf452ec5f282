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

OPEN, MORE = 256, 128
FLAT = 1.35
"""Resident memory with all streams open, and after, against that with the first of them."""


def resident(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1])


async def one(client: httpx.AsyncClient, number: int, opened: list[int]) -> str:
    body = {"prompt": "Tell me a story.", "seed": number, "max_tokens": 24, "ignore_eos": True}
    async with client.stream("POST", "/generate/stream", json=body) as response:
        if response.status_code != 200:
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 300
            return "refused"
        opened.append(number)
        pieces = [json.loads(line) async for line in response.aiter_lines()]
    assert pieces[-1]["done"]
    assert pieces[-1]["usage"]["completion_tokens"] == 24
    return "whole"


async def flood(server: Server) -> tuple[Counter[str], list[int]]:
    opened: list[int] = []
    limits = httpx.Limits(max_connections=OPEN + MORE)
    async with httpx.AsyncClient(base_url=server.url, timeout=280, limits=limits) as client:
        await one(client, 0, opened)
        memory = [resident(server)]
        streams = [asyncio.create_task(one(client, 1 + number, opened)) for number in range(OPEN)]
        await until(lambda: len(opened) >= OPEN // 2)
        streams += [asyncio.create_task(one(client, 1000 + number, opened)) for number in range(MORE)]
        ends = Counter(await asyncio.gather(*streams))
        memory.append(resident(server))
    return ends, memory


@pytest.mark.slow
def test_with_256_streams_open_those_taken_end_whole_and_the_rest_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--max-running", "32", "--max-waiting", "224") as server:
        ends, memory = asyncio.run(flood(server))
    print(dict(ends), memory)
    assert set(ends) <= {"whole", "refused"}
    assert ends["whole"] >= OPEN
    assert ends["refused"]
    assert memory[1] < memory[0] * FLAT
