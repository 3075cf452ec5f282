"""``timeout`` and ``MiniVault-Timeout`` over HTTP: a status and a frame of their own."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

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


@pytest.mark.parametrize("path", ["/generate/stream", "/v1/completions"])
async def test_a_stream_that_is_cut_short_is_in_the_log_by_its_request(path: str) -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    with capture_logs([merge_contextvars]) as logs:
        async with client_of(bench) as client:
            headers = {"MiniVault-Timeout": "0.05", "X-Request-ID": "cut-short"}
            await client.post(path, json={"prompt": "hi", "stream": True}, headers=headers)
    told = [one for one in logs if one["event"] == "stream ended early"]
    shown = [(one["status"], one["code"], one["request_id"]) for one in told]
    assert shown == [(504, "deadline_exceeded", "cut-short")]


async def test_the_time_that_a_prompt_takes_to_be_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("minivault.service.preparing.read_prompt", slowly)
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", json={"prompt": "hi", "timeout": 0.05})
    assert response.status_code == 504
    assert (bench.models.leases, bench.ledger.intents) == (0, [])


@pytest.mark.parametrize("given", ["0.000001", "0.50", "9", "9999", "86399.999999", "86400", "86400.0"])
async def test_a_timeout_is_taken_as_it_is_documented(given: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate/stream", json={"prompt": "hi"}, headers={"MiniVault-Timeout": given})
        document = (await client.get("/openapi.json")).json()
    named = [one for one in document["paths"]["/generate"]["post"]["parameters"] if one["name"] == "MiniVault-Timeout"]
    assert response.status_code != 422
    assert re.search(named[0]["schema"]["pattern"], given)


@pytest.mark.parametrize(
    "given", ["", "0", "0.0", "0.0000001", "07", "-1", "1e3", "nan", "inf", "86401", "86400.1", "1 s", "٣"]
)
async def test_a_timeout_that_cannot_be_read_is_refused_by_name(given: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post(
            "/generate", json={"prompt": "hi"}, headers=[(b"minivault-timeout", given.encode())]
        )
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "MiniVault-Timeout"
    assert not bench.ledger.intents
