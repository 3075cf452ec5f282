"""Spans of OpenTelemetry, sent as OTLP over HTTP, with the attributes of its GenAI conventions.

The one door to the libraries of the extra ``otel``; import it lazily. The names are written out here, since the
conventions for GenAI are still in development and their constants move. Of OpenTelemetry's own variables those count
that say nothing of the endpoint: ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` ...
Knows nothing of HTTP's bodies, of engines or of the vault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from minivault import __version__
from minivault.telemetry.tracing import TracedCall, TracedRequest

EXPORT_SECONDS = 5.0
"""Most time that one sending takes; a collector that is gone must not hold up the end of the server."""
_PATH = "/v1/traces"
_SERVER_ERROR = 500

Attributes = dict[str, str | int | float | bool | Sequence[str]]


def exporter_to(endpoint: str) -> SpanExporter:
    """``endpoint``: the collector's base address, such as http://localhost:4318, or the whole one of its traces."""
    base = endpoint.rstrip("/")
    return OTLPSpanExporter(endpoint=base if base.endswith(_PATH) else base + _PATH, timeout=EXPORT_SECONDS)


class OtelTracing:
    """Spans of one server. Spans are made on the event loop, and sent by a thread of the library."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        content: bool = False,
        at_once: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``at_once``: each span is sent where it ends, for tests."""
        self.wants_content = content
        self._now_ns = now_ns
        # No detectors beyond the variables: they would tell the collector of the machine and its command line.
        own = Resource({SERVICE_NAME: "minivault", "service.version": __version__})
        self._provider = TracerProvider(resource=own.merge(_resource_of_variables()), shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("minivault", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[TracedRequest]:
        told = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        parent = self._propagator.extract(told)
        request = TracedRequest()
        with self._tracer.start_as_current_span(
            method,
            parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,  # its message may hold what was sent
            set_status_on_exception=False,
        ) as span:
            try:
                yield request
            finally:
                if request.route is not None:
                    span.update_name(f"{method} {request.route}")
                    span.set_attribute("http.route", request.route)
                if request.status:
                    span.set_attribute("http.response.status_code", request.status)
                if not request.status or request.status >= _SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))
                    span.set_attribute("error.type", str(request.status or "cut"))

    def call(self, call: TracedCall) -> None:
        end = self._now_ns()
        begun = end - call.total_ns
        span = self._tracer.start_span(
            f"{call.operation} {call.model}",
            kind=SpanKind.INTERNAL,  # the model runs in this process
            attributes=_attributes(call) | (_content(call) if self.wants_content else {}),
            start_time=begun,
        )
        span.add_event("engine.submitted", timestamp=begun + call.queue_ns)
        if call.first_token_ns is not None:
            span.add_event("gen_ai.first_token", timestamp=begun + call.first_token_ns)
        if call.finish_reason == "failed":
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def close(self) -> None:
        self._provider.shutdown()


def _resource_of_variables() -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()


_WORDS = frozenset({"stop_sequences"})
"""Parameters in the client's own words: content, as in the vault."""


def _attributes(call: TracedCall) -> Attributes:
    found: Attributes = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": "minivault",
        "gen_ai.request.model": call.model,
        "gen_ai.response.model": call.model,
        "gen_ai.response.id": call.request_id,
        "gen_ai.usage.input_tokens": call.prompt_tokens,
        "minivault.record.index": call.record_index,
    }
    told = {name: value for name, value in call.parameters.items() if name not in _WORDS}
    found.update({f"gen_ai.request.{name}": value for name, value in told.items()})
    if call.operation != "embeddings":
        found["gen_ai.usage.output_tokens"] = call.completion_tokens
        found["gen_ai.response.finish_reasons"] = (call.finish_reason,)
        found["gen_ai.output.type"] = "json" if call.as_json else "text"
    if call.first_token_ns is not None and call.parameters.get("stream"):
        found["gen_ai.response.time_to_first_chunk"] = call.first_token_ns / 1e9
    if call.finish_reason == "failed":
        found["error.type"] = "failed"
    return found


def _content(call: TracedCall) -> Attributes:
    found: Attributes = {f"gen_ai.request.{name}": call.parameters[name] for name in _WORDS & call.parameters.keys()}
    if call.messages:
        found["gen_ai.input.messages"] = _json([_message(role, text) for role, text in call.messages])
    if call.response:
        answer = _message("assistant", call.response) | {"finish_reason": call.finish_reason}
        found["gen_ai.output.messages"] = _json([answer])
    return found


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
