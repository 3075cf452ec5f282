"""Spans of requests and calls: what they say, whose children they are, and that they hold no content unasked."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from minivault.access.caller import Caller
from minivault.api.app import create_app
from minivault.errors import ConfigError, EngineFailed
from minivault.generation import GenerationRequest, SamplingParams
from minivault.settings import Settings
from minivault.telemetry.otel import OtelTracing, exporter_to
from minivault.telemetry.tracing import NO_TRACING, TracedCall, open_tracing
from tests.api.client import client_of
from tests.fakes import Bench, breaks_after, make_bench, says

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SECRET = "s3cr3t words"
CALL = TracedCall("chat", "guide", "id-1", "stop", 3, 2, 1000, 100, 400, 7)


def tracing(*, content: bool = False) -> tuple[OtelTracing, InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    return OtelTracing(kept, content=content, at_once=True, now_ns=lambda: 5000), kept


def traced_bench(*steps: Any, content: bool = False) -> tuple[Bench, InMemorySpanExporter]:
    bench = make_bench(*steps)
    bench.service.tracing, kept = tracing(content=content)
    return bench, kept


def only(kept: InMemorySpanExporter) -> ReadableSpan:
    (span,) = kept.get_finished_spans()
    return span


async def test_a_call_is_a_span_by_the_conventions() -> None:
    bench, kept = traced_bench(says("abc"))
    sampling = SamplingParams(max_tokens=5, temperature=0.5, seed=7, stop=("zz",))
    await bench.service.generate(GenerationRequest(prompt=SECRET, request_id="r1", sampling=sampling), Caller("local"))
    span = only(kept)
    assert (span.name, span.kind) == ("chat fake", SpanKind.INTERNAL)
    said = dict(span.attributes or {})
    assert said == said | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "minivault",
        "gen_ai.request.model": "fake",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.output.type": "text",
        "minivault.record.index": 1,
    }
    assert said["gen_ai.usage.input_tokens"] == bench.ledger.outcomes[0].prompt_tokens


@pytest.mark.parametrize("content", [False, True])
async def test_content_leaves_only_when_it_is_asked_for(content: bool) -> None:
    bench, kept = traced_bench(says("abc"), content=content)
    asked = GenerationRequest(prompt=SECRET, sampling=SamplingParams(stop=("zz",)))
    await bench.service.generate(asked, Caller("local"))
    said = only(kept).to_json()
    assert (SECRET in said, "zz" in said, "stop_sequences" in said) == (content, content, content)
    if content:
        (answer,) = json.loads(str((only(kept).attributes or {})["gen_ai.output.messages"]))
        assert answer == {"role": "assistant", "parts": [{"type": "text", "content": "abc"}], "finish_reason": "stop"}


async def test_what_the_vault_may_not_keep_is_in_no_trace_either() -> None:
    bench, kept = traced_bench(says("abc"), content=True)
    stopped = SamplingParams(stop=(SECRET,))
    await bench.service.generate(GenerationRequest(prompt=SECRET, store=False, sampling=stopped), Caller("local"))
    await bench.service.generate(GenerationRequest(prompt=SECRET), Caller("local", store=False))
    for span in kept.get_finished_spans():
        assert not {name for name in span.attributes or {} if name.endswith(".messages")}
        assert SECRET not in span.to_json()


def test_the_first_token_is_an_event_at_its_time() -> None:
    to, kept = tracing()
    to.call(CALL)
    span = only(kept)
    assert (span.start_time, span.end_time) == (4000, 5000)
    assert [(event.name, event.timestamp) for event in span.events] == [
        ("engine.submitted", 4100),
        ("gen_ai.first_token", 4400),
    ]


async def test_a_failed_call_is_an_error_without_its_message() -> None:
    bench, kept = traced_bench(breaks_after("s3cr3t"))
    with pytest.raises(EngineFailed):
        await bench.service.generate(GenerationRequest(prompt="hi"), Caller("local"))
    span = only(kept)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "failed"
    assert "s3cr3t" not in span.to_json()


def test_an_embedding_has_no_output_tokens() -> None:
    to, kept = tracing()
    to.call(TracedCall("embeddings", "mini", "id-2", "stop", 9, 0, 1000, 0, None, 3))
    assert only(kept).name == "embeddings mini"
    assert "gen_ai.usage.output_tokens" not in (only(kept).attributes or {})


async def test_the_callers_trace_goes_on_through_the_request_to_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    to, kept = tracing()
    monkeypatch.setattr("minivault.api.app.open_tracing", lambda *_, **__: to)
    bench = make_bench(says("abc"))
    async with client_of(bench) as client:
        bench.service.tracing = to  # the lifespan does so where there is one
        told = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        await client.post("/generate", json={"prompt": SECRET}, headers=told)
        await client.get("/livez", headers=told)
    call, request = kept.get_finished_spans()
    assert (request.name, request.kind) == ("POST /generate", SpanKind.SERVER)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
    }
    assert request.parent is not None
    assert call.parent is not None
    assert (f"{request.parent.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert call.parent.span_id == (request.context and request.context.span_id)


async def test_a_path_that_is_not_ours_is_in_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    to, kept = tracing()
    monkeypatch.setattr("minivault.api.app.open_tracing", lambda *_, **__: to)
    async with client_of(make_bench()) as client:
        await client.get("/s3cr3t")
    assert only(kept).name == "GET"
    assert "s3cr3t" not in only(kept).to_json()


def test_spans_reach_a_collector_over_http() -> None:
    with collector() as (endpoint, received):
        to = OtelTracing(exporter_to(endpoint), now_ns=lambda: 5000)
        with to.request("GET", {}) as request:
            request.route, request.status = "/models", 200
            to.call(CALL)
        to.close()
    (resource,) = received[0].resource_spans
    assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "minivault"
    assert {span.name for span in resource.scope_spans[0].spans} == {"GET /models", "chat guide"}
    assert not {one.key for one in resource.resource.attributes} & {"host.name", "process.command_args"}


def test_without_an_endpoint_there_is_nothing_to_pay() -> None:
    assert open_tracing(None) is NO_TRACING


def test_an_endpoint_without_the_libraries_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "minivault.telemetry.otel", None)
    monkeypatch.delattr("minivault.telemetry.otel", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'minivault\[otel\]'"):
        create_app(Settings(otel_endpoint="http://localhost:4318"))


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()
