"""Pages without a CDN or inline script, health, metrics, the vault's routes, and a true /openapi.json."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from minivault.api.app import create_app
from minivault.engine.engine import UpstreamStats
from minivault.errors import ModelNotReady
from minivault.settings import Settings
from tests.api.client import BASE, client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench, says

ASK = {"prompt": "hi", "seed": 7}


async def test_a_page_that_names_no_icon_gets_one() -> None:
    async with client_of(make_bench()) as client:
        found = await client.get("/favicon.ico")
    assert (found.status_code, found.headers["content-type"]) == (200, "image/svg+xml")


@pytest.mark.parametrize("accept", [None, "*/*", "text/plain", "application/json"])
async def test_the_front_says_one_line_to_programs(accept: str | None) -> None:
    async with client_of(make_bench()) as client:
        client.headers.pop("accept")
        response = await client.get("/", headers={"accept": accept} if accept else {})
    assert (response.text, response.headers["content-type"]) == ("MiniVault is running", "text/plain; charset=utf-8")


async def test_the_front_is_a_page_to_browsers() -> None:
    async with client_of(make_bench()) as client:
        response = await client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert "<h1>MiniVault is running</h1>" in response.text
    assert "{version}" not in response.text


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1:9123", "127.0.0.1:9123"),
        ("[::1]:9123", "[::1]:9123"),
        ("vault.example", "vault.example"),
        ("<script>", "localhost:8000"),
        ("a;reboot", "localhost:8000"),
    ],
)
async def test_the_front_names_the_address_it_was_asked_by(host: str, shown: str) -> None:
    async with client_of(make_bench(), allowed_hosts=["*"], require_keys=True) as client:
        page = (await client.get("/", headers={"accept": "text/html", "host": host})).text
    assert f"curl -X POST http://{shown}/generate " in page
    assert "{host}" not in page


@pytest.mark.parametrize("path", ["/", "/livez", "/docs", "/models", "/health"])
async def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    async with client_of(make_bench()) as client:
        get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    async with client_of(make_bench()) as client:
        pages = [await client.get("/docs"), await client.get("/", headers={"accept": "text/html"})]
        for page in pages:
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style|javascript:", page.text)
            for target in re.findall(r'(?:src|href)="([^"]+)"', page.text):
                assert target.startswith("/")
                assert (await client.get(target)).status_code == 200


async def test_the_docs_ask_no_other_machine() -> None:
    async with client_of(make_bench()) as client:
        start = (await client.get("/docs/start.js")).text
    assert "validatorUrl: null" in start
    assert "//" not in re.sub(r"^//.*$", "", start, flags=re.MULTILINE)


async def test_readyz_is_503_while_the_model_loads_and_livez_is_not() -> None:
    bench = make_bench()
    bench.models.error = ModelNotReady("The model is still loading.", retry_after=1)
    async with client_of(bench) as client:
        ready, alive, health = [await client.get(path) for path in ("/readyz", "/livez", "/health")]
        bench.models.error = None
        assert (await client.get("/readyz")).status_code == 200
    assert (ready.status_code, alive.status_code, health.status_code) == (503, 200, 200)
    assert "retry-after" in ready.headers
    assert health.json()["status"] == "unavailable"


async def test_readyz_is_503_when_the_vault_cannot_write_and_while_draining() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        bench.ledger.writable = False
        assert (await client.get("/readyz")).status_code == 503
        bench.ledger.writable = True
        await bench.service.drain(0)
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.post("/generate", json=ASK)).status_code == 503


async def test_readyz_is_503_while_no_server_behind_the_model_is_well() -> None:
    bench = make_bench()
    first, second = (UpstreamStats(address, healthy=False, in_flight=0) for address in ("a:1", "b:1"))
    async with client_of(bench) as client:
        bench.engine.upstreams = (first, second)
        ready, alive, health = [await client.get(path) for path in ("/readyz", "/livez", "/health")]
        bench.engine.upstreams = (first, replace(second, healthy=True))
        assert (await client.get("/readyz")).status_code == 200
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert health.json()["reason"] == ready.json()["error"]["message"]


async def test_metrics_say_whether_readyz_would() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        ready = (await client.get("/metrics")).text
        bench.models.error = ModelNotReady("The model is still loading.", retry_after=1)
        loading = (await client.get("/metrics")).text
    assert "\nminivault_ready 1.0\n" in ready
    assert "\nminivault_ready 0.0\n" in loading


async def test_readyz_is_503_while_the_keys_cannot_be_believed() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        assert (await client.get("/readyz")).status_code == 200
        keys.store.path.write_text("{", encoding="utf-8")
        ready, alive = await client.get("/readyz"), await client.get("/livez")
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert "keys.json" not in ready.text


async def test_where_keys_are_asked_for_readyz_tells_strangers_no_reason() -> None:
    bench = make_bench()
    bench.models.error = ModelNotReady("config.json of this model is gone", retry_after=1)
    async with client_of(bench) as client:
        told = await client.get("/readyz")
    async with keyed_client(bench) as (client, keys):
        ready = await client.get("/readyz", headers=keys.headers("admin"))
        health = await client.get("/health", headers=keys.headers("admin"))
    assert "config.json" in told.text
    assert (ready.status_code, ready.json()["error"]["message"]) == (503, "The server is not ready.")
    assert "config.json" in health.json()["reason"]


async def test_readyz_is_503_while_the_limits_cannot_be_counted() -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(make_bench(), limits_storage=f"redis://127.0.0.1:{port}") as client:
        ready, alive = await client.get("/readyz"), await client.get("/livez")
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert "Redis does not answer" in ready.text


async def test_health_has_the_fields_of_the_wire() -> None:
    async with client_of(make_bench()) as client:
        await client.post("/generate", json=ASK)
        body = (await client.get("/health")).json()
    assert (body["status"], body["model"], body["total_requests"]) == ("ok", "fake", 1)
    assert body["average_response_time_ms"] > 0
    assert body["permissions"] == ["look", "generate", "read", "replay", "erase", "observe", "models"]
    assert set(body["engine"]) == {"running", "waiting", "kv_cache_usage"}
    assert body["vault"] == {
        "records": 1,
        "head_size": 0,
        "signed_at": None,
        "head_error": None,
        "mirror_error": None,
    }


async def test_metrics_have_our_names_and_vllms_and_no_prompt() -> None:
    bench = make_bench(says("answer"))
    async with client_of(bench) as client:
        await client.post("/generate", json={"prompt": "s3cr3t"}, headers={"x-request-id": "s3cr3t-id"})
        await client.get("/s3cr3t")
        await client.request("S3CR3T", "/livez")
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    labels = 'engine="scripted",model_name="fake"'
    for line in (
        f"vllm:prompt_tokens_total{{{labels}}} 7.0",
        f"vllm:generation_tokens_total{{{labels}}} 6.0",
        f"vllm:num_requests_running{{{labels}}} 1.0",
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.25",
        f"vllm:spec_decode_num_drafts_total{{{labels}}} 0.0",
        f"vllm:spec_decode_num_draft_tokens_total{{{labels}}} 0.0",
        f"vllm:spec_decode_num_accepted_tokens_total{{{labels}}} 0.0",
        f"vllm:time_to_first_token_seconds_count{{{labels}}} 1.0",
        f"vllm:inter_token_latency_seconds_count{{{labels}}} 5.0",
        "minivault_records 1.0",
        "minivault_vault_writable 1.0",
        'minivault_http_requests_total{method="POST",route="/generate",status="200"} 1.0',
    ):
        assert line in response.text.splitlines()
    assert "s3cr3t" not in response.text.lower()


async def test_records_can_be_listed_read_and_replayed() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answer = (await client.post("/generate", json=ASK)).json()
        listed = (await client.get("/vault/records")).json()["records"]
        detail = (await client.get(f"/vault/records/{answer['id']}")).json()
        replay = await client.post(f"/vault/records/{answer['id']}/replay")
        stats = (await client.get("/vault/stats")).json()
    assert (listed[0]["prompt"], listed[0]["response"]) == ("hi", answer["response"])
    assert detail["parameters"]["seed"] == 7
    assert replay.json()["verdict"] == "MATCH"
    assert replay.headers["minivault-record"].startswith(str(replay.json()["record"]["index"]) + ":")
    assert stats["calls"] == 2


async def test_heads_and_proofs_are_plain_text() -> None:
    async with client_of(make_bench()) as client:
        answer = (await client.post("/generate", json=ASK)).json()
        unsigned = await client.get("/vault/head")
        proof = await client.get(f"/vault/records/{answer['id']}/proof")
    assert (unsigned.status_code, unsigned.json()["error"]["code"]) == (404, "record_not_found")
    assert (proof.headers["content-type"], proof.text) == ("text/plain; charset=utf-8", "proof of 0\n")


async def test_content_is_erased_by_id_or_by_filter_and_never_without_one() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answer = (await client.post("/generate", json=ASK)).json()
        one = await client.delete(f"/vault/records/{answer['id']}/content")
        many = await client.delete("/vault/contents", params={"before": "2030-01-01"})
        unbounded = await client.delete("/vault/contents")
    assert (one.json()["erased"], one.json()["record"]["index"]) == ([0], 2)
    assert (many.json()["erased"], many.json()["more"]) == ([0], False)
    assert (unbounded.status_code, unbounded.json()["error"]["param"]) == (422, "key")
    assert [(erasure.reason, erasure.source) for erasure in bench.ledger.erasures] == [("request", "http")] * 2


@pytest.mark.parametrize("time", ["0008-07-24T22:43:21Z", "9999-12-31T23:59:59Z", "2026-01-31"])
async def test_any_time_that_can_be_written_can_be_asked_for(time: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.get("/vault/records", params={"after": time, "before": time})
    assert response.status_code == 200


async def test_models_are_listed() -> None:
    async with client_of(make_bench()) as client:
        assert [model["name"] for model in (await client.get("/models")).json()["models"]] == ["fake"]


def document() -> dict[str, Any]:
    app = create_app(Settings(), service=make_bench().service)
    found: dict[str, Any] = app.openapi()
    return found


def test_the_document_is_of_the_version_that_the_bundled_viewer_reads() -> None:
    found = document()
    assert found["openapi"].startswith("3.0.")
    assert '"type": "null"' not in str(found).replace("'", '"')


def test_the_document_names_every_route_but_the_hidden_ones() -> None:
    assert set(document()["paths"]) == {
        "/generate", "/generate/stream", "/generate-stream", "/livez", "/readyz", "/metrics", "/models",
        "/api/generate", "/api/chat", "/api/tags", "/api/ps", "/api/show", "/api/version", "/api/pull", "/api/delete",
        "/embed", "/v1/embeddings", "/api/embed", "/api/embeddings", "/v1/messages", "/v1/messages/count_tokens",
        "/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model_id}",
        "/v1/responses", "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel", "/v1/responses/{response_id}/input_items",
        "/v1/responses/input_tokens",
        "/vault/records", "/vault/records/{id}", "/vault/records/{id}/replay", "/vault/stats",
        "/vault/head", "/vault/records/{id}/proof", "/vault/records/{id}/content",
        "/vault/contents",
        "/models/pull", "/models/import", "/models/{name}", "/models/{name}/verify", "/models/{name}/load",
        "/models/{name}/unload",
        "/admin/keys", "/admin/keys/{key_id}", "/admin/keys/{key_id}/rotate", "/vault/export",
        "/v1/files", "/v1/files/{file_id}", "/v1/files/{file_id}/content",
        "/v1/batches", "/v1/batches/{batch_id}", "/v1/batches/{batch_id}/cancel",
    }  # fmt: skip


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = document()
    names = set(re.findall(r"#/components/schemas/(\w+)", str(found)))
    assert names <= set(found["components"]["schemas"])


def test_generate_documents_its_body_and_its_errors() -> None:
    post = document()["paths"]["/generate"]["post"]
    refused = {"400", "401", "403", "404", "413", "415", "422", "429", "500", "503", "504"}
    assert set(post["responses"]) == {"200"} | refused
    assert set(post["responses"]["200"]["content"]) == {
        "application/json", "text/event-stream", "application/x-ndjson", "text/plain",
    }  # fmt: skip
    schema = document()["components"]["schemas"]["GenerateRequest"]
    assert schema["oneOf"] == [{"required": ["prompt"]}, {"required": ["messages"]}]
    assert schema["additionalProperties"] is False
    assert (schema["properties"]["top_p"]["minimum"], schema["properties"]["top_p"]["exclusiveMinimum"]) == (0, True)
    assert schema["properties"]["max_tokens"]["nullable"] is True


async def test_the_document_is_written_once_and_not_sent_twice() -> None:
    async with client_of(make_bench()) as client:
        first = await client.get("/openapi.json")
        second = await client.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, second.status_code, second.content) == (200, 304, b"")


async def test_the_answers_have_the_documented_fields() -> None:
    async with client_of(make_bench()) as client:
        answer = (await client.post("/generate", json=ASK)).json()
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert set(schemas["GenerateResponse"]["required"]) == set(answer)


async def test_the_document_is_made_once_and_off_the_event_loop() -> None:
    app = create_app(Settings(rate_limit=""), service=make_bench().service)
    makers: list[str] = []

    def made() -> dict[str, Any]:
        makers.append(threading.current_thread().name)
        return {"openapi": "3.0.3"}

    app.openapi = made  # type: ignore[method-assign]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client:
        answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(4)))
    assert [answer.json() for answer in answers] == [{"openapi": "3.0.3"}] * 4
    assert len(makers) == 1
    assert makers[0] != threading.current_thread().name
