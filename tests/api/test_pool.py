"""Models in memory, over HTTP: loading, unloading, waiting and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from minivault.api.app import create_app
from minivault.errors import ModelNotReady, ModelTooLarge
from minivault.settings import Settings
from tests.api.client import BASE, client_of
from tests.api.keyed import keyed_client
from tests.fakes import Bench, make_bench, until

HI = {"role": "user", "content": "hi"}


@asynccontextmanager
async def overheard(bench: Bench, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, bytearray]]:
    """A client, and what it has been sent so far: it hands an answer over only when that is whole."""
    app = create_app(Settings(rate_limit="", **settings), service=bench.service)
    heard = bytearray()

    async def tapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            heard.extend(message.get("body", b""))
            await send(message)

        await app(scope, receive, noted)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(tapped), base_url=BASE) as client:
        yield client, heard


async def test_a_model_is_loaded_and_unloaded_by_name() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        unloaded = await client.post("/models/fake/unload", json={})
        listed = (await client.get("/models")).json()["models"][0]
        loaded = await client.post("/models/fake/load", json={"keep_alive": 7})
    assert (unloaded.status_code, loaded.status_code) == (200, 200)
    assert (listed["state"], listed["loaded"]) == ("unloaded", False)
    assert (unloaded.json()["loaded"], loaded.json()["loaded"]) == (False, True)
    assert bench.models.keep_alives == [7]
    assert bench.models.leases == 0


async def test_damaged_models_are_told_to_those_who_may_use_them() -> None:
    bench = make_bench()
    bench.models.damaged = {"mine": "config.json changed", "other": "model.safetensors is gone"}
    async with keyed_client(bench) as (client, keys):
        keys.add("bound", models=("fake", "other"))
        told = [(await client.get("/models", headers=keys.headers(who))).json() for who in ("user", "bound")]
        served = [card["id"] for card in (await client.get("/v1/models", headers=keys.headers("user"))).json()["data"]]
    assert [[one["name"] for one in answer["damaged"]] for answer in told] == [["mine", "other"], ["other"]]
    assert told[1]["damaged"][0]["error"] == "model.safetensors is gone"
    assert served == ["fake"]


async def test_loading_and_unloading_need_no_body() -> None:
    async with client_of(make_bench()) as client:
        answers = [await client.post(f"/models/fake/{done}") for done in ("load", "unload")]
        untyped = await client.post("/models/fake/load", content=b'{"keep_alive": 7}')
    assert [answer.status_code for answer in answers] == [200, 200]
    assert untyped.status_code == 415


@pytest.mark.parametrize("path", ["/models/nope/load", "/models/nope/unload"])
async def test_an_unknown_model_is_404(path: str) -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post(path, json={})).status_code == 404


@pytest.mark.parametrize("body", [{"keep_alive": -2}, {"keep_alive": "10m"}, {"keepalive": 1}])
async def test_a_wrong_field_is_422(body: Any) -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/models/fake/load", json=body)).status_code == 422


async def test_a_model_that_does_not_fit_is_told_with_the_figures() -> None:
    bench = make_bench()
    bench.models.error = ModelTooLarge("The model fake needs 9.0 GB of memory", param="model")
    async with client_of(bench) as client:
        answer = await client.post("/generate", json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "model_too_large")
    assert "9.0 GB" in answer.json()["error"]["message"]


async def test_no_call_holds_its_model_after_its_end() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        await client.post("/generate", json={"prompt": "hi"})
        await client.post("/generate-stream", json={"prompt": "hi"})
        await client.post("/v1/chat/completions", json={"model": "fake", "messages": [], "n": 2})
        await client.post("/v1/completions", json={"model": "fake", "prompt": ["a", "b"], "n": 2})
        await client.post("/generate", json={"prompt": "hi", "response_format": {"type": "json_object"}})
        await client.post("/v1/messages/count_tokens", json={"model": "fake", "messages": []})
        bench.ledger.faults = ["intent"]
        await client.post("/generate", json={"prompt": "hi"})
        bench.models.error = ModelNotReady("The model is still loading.")
        await client.post("/generate", json={"prompt": "hi"})
    assert bench.models.leases == 0


WAITING = ": waiting for the model\n\n"
SSE = [
    ("/generate", {"prompt": "hi", "stream": True, "seed": 7}, "data: [DONE]"),
    ("/v1/chat/completions", {"model": "fake", "messages": [HI], "stream": True, "seed": 7}, "data: [DONE]"),
    ("/v1/completions", {"model": "fake", "prompt": "hi", "stream": True, "seed": 7}, "data: [DONE]"),
    ("/v1/responses", {"model": "fake", "input": "hi", "stream": True}, "response.completed"),
    ("/v1/messages", {"model": "fake", "messages": [HI], "max_tokens": 9, "stream": True}, "message_stop"),
]


@pytest.mark.parametrize(("path", "body", "end"), SSE)
async def test_a_stream_that_waits_for_its_model_is_told_so(path: str, body: Any, end: str) -> None:
    bench = make_bench()
    bench.models.gate = asyncio.Event()
    async with overheard(bench, sse_keep_alive=0.01) as (client, heard):
        asking = asyncio.ensure_future(client.post(path, json=body))
        await until(lambda: WAITING.encode() in heard)
        bench.models.gate.set()
        said = (await asking).text
    assert said.startswith(WAITING)
    assert end in said.rpartition(WAITING)[2]
    assert bench.models.leases == 0


async def test_a_stream_is_silent_while_it_waits_where_comments_are_turned_off() -> None:
    bench = make_bench()
    bench.models.gate = asyncio.Event()
    async with client_of(bench, sse_keep_alive=0) as client:
        asking = asyncio.ensure_future(client.post("/generate", json={"prompt": "hi", "stream": True}))
        await until(lambda: bench.models.waiting)
        bench.models.gate.set()
        said = (await asking).text
    assert said.startswith("data: ")


@pytest.mark.parametrize(("path", "body", "end"), SSE)
async def test_a_load_that_fails_under_a_waiting_stream_is_an_event_and_no_end(path: str, body: Any, end: str) -> None:
    bench = make_bench()
    bench.models.gate = asyncio.Event()
    async with overheard(bench, sse_keep_alive=0.01) as (client, heard):
        asking = asyncio.ensure_future(client.post(path, json=body))
        await until(lambda: WAITING.encode() in heard)
        bench.models.error = ModelNotReady("The model could not be loaded.")
        bench.models.gate.set()
        said = (await asking).text
    assert "could not be loaded" in said
    assert end not in said


async def test_a_client_that_hangs_up_waits_no_longer_for_its_model() -> None:
    bench = make_bench()
    bench.models.gate = asyncio.Event()
    app = create_app(Settings(rate_limit=""), service=bench.service)
    gone = asyncio.Event()
    body = [{"type": "http.request", "body": b'{"prompt": "hi"}', "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/generate", "raw_path": b"/generate", "query_string": b"",
             "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 8000), "scheme": "http",
             "http_version": "1.1"}  # fmt: skip
    serving = asyncio.ensure_future(app(scope, receive, send))
    await until(lambda: bench.models.waiting)
    gone.set()
    await serving
    await until(lambda: bench.models.gave_up)
    assert bench.ledger.intents == []
    await bench.service.drain(5)
