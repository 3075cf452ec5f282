"""The same request gives the same bytes: in every framing, in any company, with any threads and kernels."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.engine.native import _native
from tests.e2e.server import serving

QUESTIONS = ["What model are you?", "How do I stream?", "Tell me a story.", "17 + 25 = ?"]


def bodies(count: int) -> list[dict[str, Any]]:
    """Requests of all lengths and temperatures, each with a seed."""
    return [
        {
            "prompt": QUESTIONS[i % 4] + " Again." * (i % 7),
            "seed": 1000 + i,
            "temperature": [0.0, 0.7, 1.5][i % 3],
            "max_tokens": 8 + 3 * (i % 9),
        }
        for i in range(count)
    ]


def answer(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["response"], body["finish_reason"], body["usage"]["completion_tokens"]


async def ask_together(url: str, requests: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    async with httpx2.AsyncClient(base_url=url, timeout=280) as client:
        answers = await asyncio.gather(*(client.post("/generate", json=body) for body in requests))
    return [answer(response.raise_for_status().json()) for response in answers]


def ask_in_turn(url: str, requests: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    with httpx2.Client(base_url=url, timeout=280) as client:
        return [answer(client.post("/generate", json=body).raise_for_status().json()) for body in requests]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What 32 requests give one at a time, on one thread, with the kernels that define the arithmetic."""
    with serving(tmp_path_factory.mktemp("alone") / "data", "--threads", "1", "--kernels", "scalar") as server:
        return ask_in_turn(server.url, bodies(32))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", _native.available_kernels())
def test_32_at_once_equal_one_at_a_time(
    alone: list[tuple[Any, ...]], tmp_path: Path, kernels: str, threads: int
) -> None:
    with serving(tmp_path / "data", "--threads", str(threads), "--kernels", kernels) as server:
        assert asyncio.run(ask_together(server.url, bodies(32))) == alone


def test_every_framing_carries_the_same_bytes(tmp_path: Path) -> None:
    body = {"prompt": "How do I stream?", "seed": 7, "temperature": 1.2, "max_tokens": 60}
    with serving(tmp_path / "data") as server, httpx2.Client(base_url=server.url, timeout=280) as client:
        whole = client.post("/generate", json=body).json()["response"].encode()
        plain = client.post("/generate-stream", json=body).content
        lines = client.post("/generate/stream", json=body).text.splitlines()
        events = client.post("/generate", json={**body, "stream": True}).text.split("\n\n")
    assert whole
    assert plain == whole
    assert "".join(json.loads(line)["response"] for line in lines).encode() == whole
    data = [event.removeprefix("data: ") for event in events if event]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(event)["token"] for event in data[:-1]).encode() == whole
