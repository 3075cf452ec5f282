"""The door: ids, host and origin, rate limits, unknown paths; and errors in one shape, whatever broke."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minivault.errors import Draining, ModelNotReady, Overloaded
from tests.api.client import client_of
from tests.fakes import make_bench

ASK = {"prompt": "hi"}


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 128])
async def test_a_sane_request_id_is_kept_and_recorded(given: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", json=ASK, headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given == response.json()["id"] == bench.ledger.intents[0].request_id


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x" * 129,
        ".",
        "..",
        "0",
        "42",
        "9" * 30,
        "a b",
        "a\tb",
        "<script>",
        "a;b",
        "é".encode(),
        "batch_",
        "batch_0a-0-r9",
    ],
)
async def test_any_other_request_id_is_replaced(given: Any) -> None:
    async with client_of(make_bench()) as client:
        response = await client.get("/livez", headers={"x-request-id": given})
    assert response.headers["x-request-id"].isalnum()
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/livez", "/nope", "/generate"])
async def test_every_response_has_an_id_and_forbids_sniffing(path: str) -> None:
    async with client_of(make_bench()) as client:
        headers = (await client.get(path)).headers
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/generate", "/livez", "/", "/metrics"])
async def test_a_rebound_host_name_is_refused(path: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post(path, json=ASK, headers={"host": "evil.example"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "host_not_allowed")
    assert "evil" not in response.text
    assert bench.ledger.intents == []


async def test_a_listed_host_name_is_answered() -> None:
    async with client_of(make_bench(), allowed_hosts=["vault.lan"]) as client:
        assert (await client.get("/livez", headers={"host": "vault.lan:8000"})).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000"])
async def test_another_sites_page_is_refused(origin: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", json=ASK, headers={"origin": origin})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert bench.ledger.intents == []


async def test_the_own_page_is_answered() -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", json=ASK, headers={"origin": "http://localhost:8000"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


async def test_200_racing_requests_get_exactly_the_limit() -> None:
    bench = make_bench()
    async with client_of(bench, rate_limit="50/minute") as client:
        responses = await asyncio.gather(*(client.post("/generate", json=ASK) for _ in range(200)))
    assert sorted(response.status_code for response in responses) == [200] * 50 + [429] * 150
    assert len(bench.ledger.intents) == 50


async def test_a_refused_request_says_when_to_come_back() -> None:
    async with client_of(make_bench(), rate_limit="1/minute") as client:
        first = await client.post("/generate", json=ASK)
        second = await client.post("/generate", json=ASK)
    assert first.headers["ratelimit-policy"] == '"default";q=1;w=60'
    assert first.headers["ratelimit"] == '"default";r=0;t=60'
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert (second.status_code, second.json()["error"]["type"]) == (429, "rate_limit_error")
    assert second.headers["retry-after"] == "60"
    assert second.headers["x-ratelimit-limit-requests"] == "1"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics", "/docs", "/", "/openapi.json"])
async def test_health_metrics_and_pages_are_not_limited(path: str) -> None:
    async with client_of(make_bench(), rate_limit="1/minute") as client:
        await client.post("/generate", json=ASK)
        assert [(await client.get(path)).status_code for _ in range(3)] == [200] * 3


async def test_a_limit_counts_refused_bodies_too() -> None:
    async with client_of(make_bench(), rate_limit="1/minute") as client:
        assert (await client.post("/generate", json={})).status_code == 422
        assert (await client.post("/generate", json=ASK)).status_code == 429


@pytest.mark.parametrize(
    "error", [Overloaded("full", retry_after=3), Draining("going"), ModelNotReady("loading", retry_after=0.2)]
)
async def test_a_server_that_cannot_now_says_503_and_when_to_come_back(error: Any) -> None:
    bench = make_bench()
    bench.models.error = error
    async with client_of(bench) as client:
        response = await client.post("/generate", json=ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (503, error.code)
    assert int(response.headers["retry-after"]) >= 1


async def test_a_fault_of_ours_is_a_plain_500_that_tells_nothing() -> None:
    def broken(_request: Any) -> Any:
        raise RuntimeError("the prompt was: hi")

    bench = make_bench(broken)
    async with client_of(bench) as client:
        response = await client.post("/generate", json=ASK, headers={"x-request-id": "r9"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "prompt" not in response.text
    assert response.headers["x-request-id"] == "r9"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/docs/../../etc/passwd", 404, "not_found"),
        ("GET", "/docs/%2e%2e/secret", 404, "not_found"),
        ("GET", "/generate", 405, "method_not_allowed"),
        ("HEAD", "/generate", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
        ("GET", "/vault/records/nope", 404, "record_not_found"),
        ("POST", "/vault/records/nope/replay", 404, "record_not_found"),
        ("GET", "/vault/records?limit=0", 422, "invalid_value"),
        ("GET", "/vault/records?limit=x", 422, "int_parsing"),
        ("GET", "/vault/records?after=yesterday", 422, "invalid_value"),
        ("GET", "/vault/records?finish_reason=odd", 422, "literal_error"),
    ],
)
async def test_errors_have_one_shape(method: str, path: str, status: int, code: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.request(method, path)
    assert response.status_code == status
    if method != "HEAD":
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] in (code, "invalid_value")
    if status == 405:
        assert response.headers["allow"]
