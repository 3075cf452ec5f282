"""Pages of other sites: those whose origins are listed may ask, and no others; a preflight runs nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench

ASK = {"prompt": "hi"}
LISTED = "https://app.example"
PAGE = {"origin": LISTED}
PREFLIGHT = PAGE | {"access-control-request-method": "POST"}

# What OpenAI's npm package sends from a browser, beside what every page may send.
OPENAI_NPM = (
    "authorization,content-type,openai-organization,openai-project,user-agent,x-stainless-arch,x-stainless-lang,"
    "x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout,x-stainless-helper-method"
)
ANTHROPIC_NPM = (
    "anthropic-beta,anthropic-dangerous-direct-browser-access,anthropic-version,content-type,x-api-key,"
    "x-stainless-helper,x-stainless-timeout"
)
OURS = "minivault-timeout,minivault-answer-from-record,x-request-id,traceparent"


@pytest.mark.parametrize("asked", [OPENAI_NPM, ANTHROPIC_NPM, OURS])
async def test_a_preflight_permits_what_clients_in_browsers_send_and_runs_nothing(asked: str) -> None:
    bench = make_bench()
    async with client_of(bench, cors_origins=[LISTED]) as client:
        headers = PREFLIGHT | {"access-control-request-headers": asked}
        answer = await client.options("/v1/chat/completions", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"].split(", ") == asked.split(",")
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-request-id"]
    assert bench.ledger.intents == []


async def test_a_preflight_leaves_out_headers_that_nobody_here_heeds() -> None:
    asked = {"access-control-request-headers": "x-forwarded-for, authorization, cookie, host, x-stainless-, evil"}
    async with client_of(make_bench(), cors_origins=[LISTED]) as client:
        answer = await client.options("/generate", headers=PREFLIGHT | asked)
    assert answer.headers["access-control-allow-headers"] == "authorization"


async def test_a_preflight_needs_no_key_and_takes_no_share_of_a_limit() -> None:
    async with keyed_client(make_bench(), cors_origins=[LISTED], rate_limit="1/minute") as (client, _):
        preflights = [await client.options("/generate", headers=PREFLIGHT) for _ in range(3)]
        request = await client.post("/generate", json=ASK, headers=PAGE)
    assert [answer.status_code for answer in preflights] == [204] * 3
    assert request.status_code == 401
    assert request.headers["access-control-allow-origin"] == LISTED  # so that the page can read why


async def test_a_page_of_a_listed_origin_asks_and_reads_the_record() -> None:
    async with client_of(make_bench(), cors_origins=[LISTED]) as client:
        answer = await client.post("/generate", json=ASK, headers=PAGE)
    shown = answer.headers["access-control-expose-headers"].split(", ")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert {"x-request-id", "retry-after", "minivault-record", "x-ratelimit-remaining-tokens"} <= set(shown)
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:444",
        "https://APP.example",
        "null",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "POST", "GET"])
async def test_any_other_origin_is_refused_and_told_nothing(origin: str, method: str) -> None:
    bench = make_bench()
    headers = {"origin": origin, "access-control-request-method": "POST"}
    async with client_of(bench, cors_origins=[LISTED]) as client:
        answer = await client.request(method, "/generate", json=ASK, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    assert bench.ledger.intents == []


async def test_a_fault_of_ours_can_be_read_by_a_listed_page_too() -> None:
    def broken(_request: Any) -> Any:
        raise RuntimeError("no such thing")

    async with client_of(make_bench(broken), cors_origins=[LISTED]) as client:
        answer = await client.post("/generate", json=ASK, headers=PAGE)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, LISTED)
    assert answer.headers["access-control-expose-headers"].startswith("x-request-id")
    assert answer.headers["vary"] == "Origin"


async def test_two_origins_are_none() -> None:
    headers = [("origin", LISTED), ("origin", "https://evil.example")]
    async with client_of(make_bench(), cors_origins=[LISTED]) as client:
        assert (await client.get("/livez", headers=headers)).status_code == 403


async def test_a_listed_origin_still_has_to_name_a_host_of_this_server() -> None:
    async with client_of(make_bench(), cors_origins=[LISTED]) as client:
        answer = await client.options("/generate", headers=PREFLIGHT | {"host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


async def test_nothing_is_said_of_origins_where_none_is_listed() -> None:
    async with client_of(make_bench()) as client:
        own = await client.post("/generate", json=ASK, headers={"origin": "http://localhost:8000"})
        preflight = await client.options("/generate", headers=PREFLIGHT)
    assert not [name for name in own.headers if name.startswith("access-control") or name == "vary"]
    assert preflight.status_code == 403


async def test_a_page_on_the_internet_may_reach_this_machine_if_it_is_listed() -> None:
    headers = PREFLIGHT | {"access-control-request-private-network": "true"}
    async with client_of(make_bench(), cors_origins=[LISTED]) as client:
        answer = await client.options("/generate", headers=headers)
    assert answer.headers["access-control-allow-private-network"] == "true"
