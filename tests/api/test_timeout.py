"""``timeout`` and ``MiniVault-Timeout`` over HTTP: a status and a frame of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import client_of
from tests.fakes import make_bench, says

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
SURFACES: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"prompt": "hi"}),
    ("/v1/chat/completions", CHAT),
    ("/v1/responses", {"model": "fake", "input": "hi"}),
    ("/v1/messages", CHAT | {"max_tokens": 10}),
    ("/api/chat", CHAT | {"stream": False}),
]


@pytest.mark.parametrize(("path", "body"), SURFACES)
async def test_a_request_that_takes_too_long_is_504_on_every_surface(path: str, body: dict[str, Any]) -> None:
    bench = make_bench(template=True)
    bench.engine.hold_after = 0
    async with client_of(bench) as client:
        response = await client.post(path, json=body, headers={"MiniVault-Timeout": "0.05"})
    assert response.status_code == 504
    assert "0.05 seconds" in response.text
    assert bench.outcome.finish_reason == "failed"


async def test_the_native_field_says_it_too_and_a_stream_ends_in_an_error() -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    async with client_of(bench) as client:
        response = await client.post("/generate", json={"prompt": "hi", "stream": True, "timeout": 0.05})
    assert '"token": "a"' in response.text
    assert '"code": "deadline_exceeded"' in response.text
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("given", ["", "0", "-1", "1e3", "nan", "inf", "86401", "1 s", "٣"])
async def test_a_timeout_that_cannot_be_read_is_refused_by_name(given: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post(
            "/generate", json={"prompt": "hi"}, headers=[(b"minivault-timeout", given.encode())]
        )
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "minivault-timeout"
    assert not bench.ledger.intents
