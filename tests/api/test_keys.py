"""Keys at the entrance: how they are shown, what is answered to those that are none, and where they never appear."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from minivault.access.roles import Role
from tests.api.client import client_of
from tests.api.keyed import keyed_client, keyring
from tests.fakes import make_bench, says, until

ASK = {"prompt": "hi"}


async def test_without_any_key_nobody_is_asked_for_one() -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/generate", json=ASK)).status_code == 200
        sent = await client.post("/generate", json=ASK, headers={"authorization": "Bearer none needed"})
    assert sent.status_code == 200


async def test_a_setting_asks_for_keys_before_there_is_one() -> None:
    async with client_of(make_bench(), require_keys=True) as client:
        assert (await client.post("/generate", json=ASK)).status_code == 401
        assert (await client.get("/livez")).status_code == 200


async def test_where_no_key_exists_none_is_asked_for_to_manage_them() -> None:
    async with client_of(make_bench()) as client:
        answers = [await client.get("/admin/keys", headers=shown) for shown in ({}, {"x-api-key": "mv_a_b"})]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(401, "no_api_keys")] * 2
    assert "minivault keys create" in answers[0].text


async def test_the_first_key_shuts_the_door_of_a_running_server() -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/generate", json=ASK)).status_code == 200
        keys = keyring()
        assert (await client.post("/generate", json=ASK)).status_code == 401
        assert (await client.post("/generate", json=ASK, headers=keys.headers("user"))).status_code == 200
        keys.store.revoke("user")
        assert (await client.post("/generate", json=ASK, headers=keys.headers("user"))).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer KEY"},
        {"authorization": "bearer  KEY "},
        {"x-api-key": "KEY"},
        {"x-api-key": "KEY", "authorization": "Bearer KEY"},
        {"x-api-key": "KEY", "authorization": "Bearer placeholder"},  # a client that insists on another
    ],
)
async def test_a_key_is_taken_in_either_header(headers: dict[str, str]) -> None:
    bench = make_bench()
    async with keyed_client(bench) as (client, keys):
        shown = {name: value.replace("KEY", keys.shown["user"]) for name, value in headers.items()}
        response = await client.post("/generate", json=ASK, headers=shown)
    assert response.status_code == 200
    assert bench.ledger.intents[0].api_key_id == keys.ids["user"]


async def test_two_different_keys_open_no_door() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        headers = keys.headers("user") | {"x-api-key": keys.shown["admin"]}
        assert (await client.post("/generate", json=ASK, headers=headers)).status_code == 401


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer mv_x", "Bearer é", "mv_x"])
async def test_anything_else_is_401(value: str) -> None:
    async with keyed_client(make_bench()) as (client, _):
        response = await client.post("/generate", json=ASK, headers={b"authorization": value.encode()})
    assert response.status_code == 401
    assert "mv_x" not in response.text


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/generate", {"message", "type", "param", "code"}),
        ("/v1/chat/completions", {"message", "type", "param", "code"}),
        ("/v1/messages", {"type", "message"}),
    ],
)
async def test_a_refusal_has_the_shape_of_its_surface(path: str, error: set[str]) -> None:
    async with keyed_client(make_bench()) as (client, _):
        body = (await client.post(path, json=ASK)).json()
    assert set(body["error"]) == error
    assert body["error"]["type"] == "authentication_error"


async def test_ollamas_refusal_is_a_text() -> None:
    async with keyed_client(make_bench()) as (client, _):
        body = (await client.post("/api/generate", json=ASK)).json()
    assert "API key" in body["error"]


async def test_keys_that_cannot_be_read_let_nobody_in() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        keys.store.path.write_text("{")
        response = await client.post("/generate", json=ASK, headers=keys.headers("admin"))
        alive = await client.get("/livez")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "keys_unavailable")
    assert response.json()["error"]["message"] == "API keys cannot be checked now."
    assert "retry-after" in response.headers
    assert alive.status_code == 200


async def test_strangers_are_not_told_what_counts_the_limits() -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with keyed_client(make_bench(), rate_limit="9/minute", limits_storage=f"redis://127.0.0.1:{port}") as (
        client,
        keys,
    ):
        stranger = await client.post("/generate", json=ASK)
        known = await client.post("/generate", json=ASK, headers=keys.headers("user"))
    assert (stranger.status_code, known.status_code) == (503, 503)
    assert stranger.json()["error"]["message"] == "Limits cannot be counted now."
    assert "Redis does not answer" in known.text


async def test_a_key_appears_nowhere_but_in_its_header(caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level(logging.DEBUG)
    bench = make_bench(says("hello"))
    async with keyed_client(bench) as (client, keys):
        secrets = [text.rpartition("_")[2] for text in keys.shown.values()]
        answers = []
        for name in keys.shown:
            for path in ("/generate", "/v1/chat/completions", "/admin/keys", "/vault/records", "/metrics", "/nope"):
                answers.append(await client.post(path, json=ASK, headers=keys.headers(name)))
                answers.append(await client.get(path, headers=keys.headers(name)))
    told = "".join(answer.text + str(answer.headers) for answer in answers)
    written = caplog.text + "".join(capsys.readouterr()) + repr(bench.ledger.intents) + repr(bench.ledger.outcomes)
    assert [secret for secret in secrets if secret in told + written] == []
    assert keys.ids["user"] in repr(bench.ledger.intents)
    metrics = "".join(answer.text for answer in answers if "vllm:" in answer.text)
    assert metrics
    assert keys.ids["user"] not in metrics


async def test_the_log_names_keys_by_their_ids(capsys: pytest.CaptureFixture[str]) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        await client.get("/models", headers=keys.headers("user"))
    assert keys.ids["user"] in capsys.readouterr().out


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_a_keys_own_limit_counts_for_it_alone() -> None:
    async with keyed_client(make_bench(), rate_limit="100/minute") as (client, keys):
        keys.add("slow", requests="2/minute")
        slow = [await client.post("/generate", json=ASK, headers=keys.headers("slow")) for _ in range(3)]
        other = await client.post("/generate", json=ASK, headers=keys.headers("user"))
    assert [response.status_code for response in slow] == [200, 200, 429]
    assert slow[2].headers["retry-after"] == "60"
    assert slow[0].headers["ratelimit-policy"] == '"default";q=2;w=60'
    assert other.headers["x-ratelimit-limit-requests"] == "100"


async def test_so_many_of_a_keys_requests_run_at_one_time() -> None:
    bench = make_bench(says("hello"))
    bench.engine.hold_after = 1
    async with keyed_client(bench) as (client, keys):
        keys.add("narrow", concurrent=2)
        headers = keys.headers("narrow")
        running = [asyncio.ensure_future(client.post("/generate", json=ASK, headers=headers)) for _ in range(2)]
        await until(lambda: len(bench.engine.streams) == 2)
        refused = await client.post("/generate", json=ASK, headers=headers)
        looked = await client.get("/models", headers=headers)
        bench.engine.release()
        ended = await asyncio.gather(*running)
        after = await client.post("/generate", json=ASK, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"concurrent";q=2;qu="concurrent-requests"'
    assert refused.headers["ratelimit"] == '"concurrent";r=0;t=1'
    assert refused.headers["x-ratelimit-limit-concurrent"] == "2"
    assert [one.status_code for one in (*ended, looked, after)] == [200, 200, 200, 200]


async def test_a_replay_takes_a_place_too() -> None:
    bench = make_bench(says("hello"))
    async with keyed_client(bench) as (client, keys):
        keys.add("narrow", concurrent=1)
        headers = keys.headers("narrow")
        made = (await client.post("/generate", json=ASK, headers=headers)).json()["id"]
        bench.engine.hold_after = 1
        path = f"/vault/records/{made}/replay"
        running = asyncio.ensure_future(client.post(path, headers=headers))
        await until(lambda: len(bench.engine.streams) == 2)
        refused = await client.post(path, headers=headers)
        bench.engine.release()
        first, after = await running, await client.post(path, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert [first.status_code, after.status_code] == [200, 200]


async def test_a_stream_that_is_left_gives_its_place_back() -> None:
    bench = make_bench(says("hello"))
    async with keyed_client(bench) as (client, keys):
        keys.add("narrow", concurrent=1)
        headers = keys.headers("narrow")
        async with client.stream("POST", "/generate-stream", json=ASK, headers=headers) as stream:
            await stream.aread()
        assert (await client.post("/generate", json=ASK, headers=headers)).status_code == 200


async def test_200_racing_requests_of_a_key_get_exactly_its_limit() -> None:
    bench = make_bench(says("hello"))
    async with keyed_client(bench) as (client, keys):
        keys.add("racing", requests="50/minute")
        asked = (client.post("/generate", json=ASK, headers=keys.headers("racing")) for _ in range(200))
        answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200] * 50 + [429] * 150
    assert len(bench.ledger.intents) == 50


async def test_guesses_count_against_the_address() -> None:
    async with keyed_client(make_bench(), rate_limit="3/minute") as (client, keys):
        guesses = [await client.get("/health", headers={"x-api-key": f"mv_{n}"}) for n in range(5)]
        known = await client.post("/generate", json=ASK, headers=keys.headers("user"))
    assert [response.status_code for response in guesses] == [401, 401, 401, 429, 429]
    assert guesses[3].headers["ratelimit-policy"] == '"default";q=3;w=60'
    assert guesses[3].headers["x-ratelimit-remaining-requests"] == "0"
    assert known.status_code == 200


async def test_a_forged_forwarding_header_makes_no_new_client() -> None:
    async with client_of(make_bench(), rate_limit="1/minute") as client:
        first = await client.post("/generate", json=ASK, headers={"x-forwarded-for": "203.0.113.1"})
        second = await client.post("/generate", json=ASK, headers={"x-forwarded-for": "203.0.113.2"})
    assert (first.status_code, second.status_code) == (200, 429)


async def test_a_trusted_proxy_tells_clients_apart() -> None:
    async with client_of(make_bench(), rate_limit="1/minute", trusted_proxies=["127.0.0.1"]) as client:
        told = [
            await client.post("/generate", json=ASK, headers={"x-forwarded-for": f"198.51.100.9, 203.0.113.{n}"})
            for n in (1, 2, 1)
        ]
    assert [response.status_code for response in told] == [200, 200, 429]


# -- over HTTP, for admins ---------------------------------------------------------------------------------------------


async def test_an_admin_makes_a_key_that_works_and_sees_its_secret_once() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        admin = keys.headers("admin")
        asked = {"name": "team", "role": "auditor", "requests": "5/minute", "expires_at": "2030-01-31T00:00:00Z"}
        made = await client.post("/admin/keys", json=asked, headers=admin)
        body = made.json()
        shown = await client.get(f"/admin/keys/{body['id']}", headers=admin)
        used = await client.get("/vault/stats", headers={"x-api-key": body["key"]})
    assert (made.status_code, made.headers["cache-control"], used.status_code) == (201, "no-store", 200)
    assert shown.json() == {name: value for name, value in body.items() if name != "key"}
    assert (body["role"], body["requests"], body["expires_at"]) == ("auditor", "5/minute", "2030-01-31T00:00:00Z")


async def test_an_admin_changes_rotates_lists_and_revokes() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        admin = keys.headers("admin")
        changed = await client.patch("/admin/keys/user", json={"concurrent": 2, "models": ["fake"]}, headers=admin)
        rotated = await client.post("/admin/keys/user/rotate", json={}, headers=admin)
        old = await client.get("/models", headers=keys.headers("user"))
        new = await client.get("/models", headers={"x-api-key": rotated.json()["key"]})
        revoked = await client.delete("/admin/keys/user", headers=admin)
        listed = (await client.get("/admin/keys", headers=admin)).json()["keys"]
    assert (changed.json()["concurrent"], changed.json()["models"]) == (2, ["fake"])
    assert (old.status_code, new.status_code) == (401, 200)
    assert revoked.json()["state"] == "revoked"
    assert {key["name"]: key["state"] for key in listed}["user"] == "revoked"
    assert {key["id"] for key in listed} == set(keys.ids.values())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "\u202e"}, "name"),
        ({"name": "a", "role": "king"}, "role"),
        ({"name": "a", "requests": "often"}, "requests"),
        ({"name": "a", "concurrent": -1}, "concurrent"),
        ({"name": "a", "expires_at": "soon"}, "expires_at"),
        ({"name": "a", "expires_at": 1900000000}, "expires_at"),
        ({"name": "a", "expires_at": "2001"}, "expires_at"),
        ({"name": "a", "expires_at": "20300131"}, "expires_at"),
        ({"name": "a", "expires_at": "1900000000"}, "expires_at"),
        ({"name": "a", "expires_at": "2020-01-31"}, "expires_at"),
        ({"name": "a", "expires_at": "0s"}, "expires_at"),
        ({"name": "a", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ({"name": "a", "expires_at": "0001-01-01T00:00:00+12:00"}, "expires_at"),
        ({"name": "a", "owner": "b"}, "owner"),
        ({"name": "user"}, "name"),
    ],
)
async def test_a_term_that_cannot_be_is_422_and_names_the_field(body: dict[str, Any], param: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        response = await client.post("/admin/keys", json=body, headers=keys.headers("admin"))
        listed = await client.get("/admin/keys", headers=keys.headers("admin"))
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)
    assert listed.status_code == 200


@pytest.mark.parametrize(
    ("said", "shown"), [("2030-01-31", "2030-01-31T00:00:00Z"), ("2030-01-31T01:00:00+01:00", "2030-01-31T00:00:00Z")]
)
async def test_a_key_ends_when_the_command_line_would_have_it_end(said: str, shown: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        made = await client.post("/admin/keys", json={"name": "a", "expires_at": said}, headers=keys.headers("admin"))
        never = await client.patch("/admin/keys/a", json={"expires_at": None}, headers=keys.headers("admin"))
    assert (made.json()["expires_at"], never.json()["expires_at"]) == (shown, None)


async def test_a_key_that_is_not_there_is_404() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        response = await client.get("/admin/keys/nobody", headers=keys.headers("admin"))
    assert (response.status_code, response.json()["error"]["code"]) == (404, "key_not_found")


def test_there_are_keys_of_every_role() -> None:
    keys = keyring()
    assert {keys.store.get(role.value).terms.role for role in Role} == set(Role)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/generate", {"prompt": "hi"}),
        ("POST", "/generate", {"prompt": "hi", "stream": True}),
        ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("POST", "/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}),
        ("POST", "/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("POST", "/api/show", {}),
        ("GET", "/models/gone", None),
        ("GET", "/v1/models/gone", None),
    ],
)
async def test_a_key_bound_to_a_model_that_is_not_there_learns_no_other_name(
    method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        keys.add("bound", models=("gone",))
        asked = None if body is None else body | {"model": "gone"}
        answers = [
            await client.request(method, path, json=asked, headers=keys.headers(who)) for who in ("bound", "user")
        ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert "fake" not in answers[0].text
    assert "guide" not in answers[0].text


async def test_a_look_at_a_batch_and_its_end_are_not_counted() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        keys.add("narrow", requests="1/hour")
        sent = keys.headers("narrow")
        assert (await client.get("/v1/models", headers=sent)).status_code == 200
        answers = [await client.get("/v1/batches/batch_0", headers=sent) for _ in range(3)]
        answers.append(await client.post("/v1/batches/batch_0/cancel", headers=sent))
        refused = [await client.get(path, headers=sent) for path in ("/v1/models", "/v1/batches", "/v1/files")]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert [answer.status_code for answer in refused] == [429] * 3
