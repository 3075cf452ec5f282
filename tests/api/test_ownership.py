"""Whose records are whose: a user's key sees its own on every route that reads, and what it may use is its own too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench, says

ASK = {"prompt": "hi"}
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}

READING = [
    ("GET", "/vault/records/{id}"),
    ("GET", "/vault/records/{id}/proof"),
    ("POST", "/vault/records/{id}/replay"),
    ("DELETE", "/vault/records/{id}/content"),
]


@pytest.mark.parametrize(("method", "path"), READING)
@pytest.mark.parametrize("by", ["id", "index"])
async def test_a_call_of_another_key_is_not_there(method: str, path: str, by: str) -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        made = (await client.post("/generate", json=ASK, headers=keys.headers("user"))).json()
        name = made["id"] if by == "id" else "0"
        other = await client.request(method, path.format(id=name), headers=keys.headers("other"))
        own = await client.request(method, path.format(id=name), headers=keys.headers("user"))
    assert (other.status_code, other.json()["error"]["code"]) == (404, "record_not_found")
    assert own.status_code == 200
    assert len(bench.ledger.erasures) == (method == "DELETE")


@pytest.mark.parametrize("reader", ["auditor", "admin"])
async def test_auditors_and_admins_see_all(reader: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        made = (await client.post("/generate", json=ASK, headers=keys.headers("user"))).json()
        response = await client.get(f"/vault/records/{made['id']}", headers=keys.headers(reader))
    assert response.json()["api_key_id"] == keys.ids["user"]


async def test_a_response_of_another_key_is_not_gone_on_from_read_or_deleted() -> None:
    bench = make_bench(says("hello"), template=True)
    async with keyed_client(bench) as (client, keys):
        asked: dict[str, Any] = {"model": "fake", "input": "hi"}
        made = (await client.post("/v1/responses", json=asked, headers=keys.headers("user"))).json()["id"]
        asked["previous_response_id"] = made
        for name, status in (("other", 404), ("user", 200)):
            headers = keys.headers(name)
            gone_on = await client.post("/v1/responses", json=asked, headers=headers)
            read = await client.get(f"/v1/responses/{made}", headers=headers)
            deleted = await client.delete(f"/v1/responses/{made}", headers=headers)
            assert [one.status_code for one in (gone_on, read, deleted)] == [status] * 3, name


async def test_a_key_is_on_the_record_and_has_its_own_turn_and_cache() -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        for name in ("user", "other"):
            await client.post("/generate", json=ASK, headers=keys.headers(name))
    ids = [keys.ids["user"], keys.ids["other"]]
    assert [intent.api_key_id for intent in bench.ledger.intents] == ids
    assert [asked.fairness_key for asked in bench.engine.requests] == ids
    assert [asked.cache_salt for asked in bench.engine.requests] == [key_id.encode() for key_id in ids]


async def test_a_setting_shares_the_prefix_cache() -> None:
    bench = make_bench()
    async with keyed_client(bench, share_prefix_cache=True) as (client, keys):
        await client.post("/generate", json=ASK, headers=keys.headers("user"))
    assert bench.engine.requests[0].cache_salt == b""


async def test_without_keys_all_share_it() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        await client.post("/generate", json=ASK)
    assert bench.engine.requests[0].cache_salt == b""


async def test_of_a_key_that_keeps_nothing_only_commitments_are_kept() -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        keys.add("discreet", store=False)
        response = await client.post("/generate", json=ASK, headers=keys.headers("discreet"))
        await client.post("/generate", json=ASK, headers=keys.headers("user"))
    assert response.status_code == 200
    assert [intent.store for intent in bench.ledger.intents] == [False, True]


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", ASK),
        ("/generate", {**ASK, "model": "nowhere"}),
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", {"model": "fake", "input": "hi"}),
        ("/v1/messages", {**CHAT, "max_tokens": 5}),
        ("/v1/messages/count_tokens", CHAT),
        ("/api/generate", {"model": "fake", "prompt": "hi"}),
        ("/api/generate", {"model": "fake"}),
        ("/api/chat", CHAT),
        ("/api/show", {"model": "fake"}),
    ],
)
async def test_a_key_that_is_bound_to_other_models_is_403(path: str, body: dict[str, Any]) -> None:
    bench = make_bench(template=True)
    async with keyed_client(bench) as (client, keys):
        keys.add("bound", models=("mine",))
        response = await client.post(path, json=body, headers=keys.headers("bound"))
    assert response.status_code == 403
    assert "mine" in response.text
    assert bench.ledger.intents == []


@pytest.mark.parametrize(("path", "where"), [("/models", "models"), ("/v1/models", "data"), ("/api/tags", "models")])
async def test_a_key_sees_the_models_that_it_may_use(path: str, where: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        keys.add("bound", models=("mine",))
        bound = (await client.get(path, headers=keys.headers("bound"))).json()[where]
        free = (await client.get(path, headers=keys.headers("user"))).json()[where]
    assert (len(bound), len(free)) == (0, 1)


async def test_health_tells_a_key_of_the_models_that_it_may_use() -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        keys.add("bound", models=("mine",))
        names = {}
        for name in ("bound", "user"):
            names[name] = list((await client.get("/health", headers=keys.headers(name))).json()["models"])
    assert names == {"bound": [], "user": ["fake"]}


@pytest.mark.parametrize("prompt", ["hi", ""])
async def test_how_long_a_model_stays_is_for_those_to_say_who_change_what_is_served(prompt: str) -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        body = {"model": "fake", "prompt": prompt, "keep_alive": 7}
        for name in ("user", "admin"):
            assert (await client.post("/api/generate", json=body, headers=keys.headers(name))).status_code == 200
    assert bench.models.keep_alives == [None, 7]


async def test_a_user_does_not_unload_what_others_use() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        body = {"model": "fake", "keep_alive": 0}
        assert (await client.post("/api/generate", json=body, headers=keys.headers("user"))).status_code == 403
        assert (await client.post("/api/generate", json=body, headers=keys.headers("admin"))).status_code == 200


# -- tokens and concurrency --------------------------------------------------------------------------------------------


async def test_tokens_are_reserved_and_settled_by_what_was_used() -> None:
    bench = make_bench(says("abc"))
    async with keyed_client(bench) as (client, keys):
        keys.add("small", tokens="100/minute")
        headers = keys.headers("small")
        asked = {**ASK, "max_tokens": 90}
        first = await client.post("/generate", json=asked, headers=headers)
        second = await client.post("/generate", json=asked, headers=headers)
        third = await client.post("/generate", json={**ASK, "max_tokens": 95}, headers=headers)
        more = await client.post("/generate", json={**ASK, "max_tokens": 900}, headers=headers)
    used = first.json()["usage"]["total_tokens"]
    assert first.headers["x-ratelimit-limit-tokens"] == "100"
    assert first.headers["x-ratelimit-remaining-tokens"] == str(100 - 90 - first.json()["usage"]["prompt_tokens"])
    assert [one.status_code for one in (first, second)] == [200, 200]
    assert second.headers["x-ratelimit-remaining-tokens"] == str(10 - second.json()["usage"]["prompt_tokens"] - used)
    assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(third.headers["retry-after"]) >= 1
    assert (more.status_code, more.json()["error"]["param"]) == (422, "max_tokens")


async def test_what_was_refused_gives_its_tokens_back() -> None:
    bench = make_bench(says("abc"))
    async with keyed_client(bench) as (client, keys):
        keys.add("small", tokens="100/minute")
        bench.ledger.faults.append("intent")
        asked = {**ASK, "max_tokens": 90}
        refused = await client.post("/generate", json=asked, headers=keys.headers("small"))
        then = await client.post("/generate", json=asked, headers=keys.headers("small"))
    assert (refused.status_code, then.status_code) == (503, 200)


async def test_of_several_choices_all_are_reserved_or_none() -> None:
    bench = make_bench(says("a" * 200), template=True)
    async with keyed_client(bench) as (client, keys):
        keys.add("small", tokens="1000/minute")
        headers = keys.headers("small")

        async def status(**more: int) -> int:
            asked = {**CHAT, **more}
            return (await client.post("/v1/chat/completions", json=asked, headers=headers)).status_code

        first = await status(max_tokens=200)
        refused = await status(n=3, max_tokens=290)
        then = await status(max_tokens=700)
    assert (first, refused, then) == (200, 429, 200)
    assert len(bench.ledger.intents) == 2
