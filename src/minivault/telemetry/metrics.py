"""The numbers for Prometheus: our own ``minivault_*`` and vLLM's ``vllm:*`` names, so that existing dashboards fit.

No prompt, no key and no client's address is ever a label. Token counters grow only with an outcome that is durable, by
that record's own numbers, so they reconcile with the vault. Knows nothing of HTTP; :meth:`Metrics.render` gives text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from minivault.engine.engine import EngineStats, UpstreamStats
from minivault.generation import FinishReason
from minivault.telemetry.gauges import ModelCollector, VaultCollector, VaultFigures

# A series of times beside each counter, which nobody asks for; the library has no types for it.
disable_created_metrics()  # type: ignore[no-untyped-call]
CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_COMMIT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
_GROUP = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LABELS = ("model_name", "engine")
_REASONS = (
    *("overloaded", "draining", "model_not_ready", "rate_limit_exceeded", "concurrency_limit_exceeded"),
    *("limits_unavailable", "keys_unavailable"),
    *("invalid_api_key", "forbidden", "host_not_allowed", "origin_not_allowed"),
)


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What one durable outcome says, in seconds and tokens."""

    model: str
    engine: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    max_tokens: int
    queue_seconds: float
    first_token_seconds: float | None
    """From admission to the first token that was shown; ``None`` when none came."""
    decode_seconds: float | None
    """From the first token that was made, which may have waited for the disk before it was shown, to the end."""
    total_seconds: float
    embedded_texts: int = 0
    """Texts that came back as vectors."""


class Metrics:
    """Every metric of one server, in a registry of its own. Owned by the event loop, but for ``commit_observed``,
    which the ledger thread calls (the client library's counters are thread-safe)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.memory_budget: int | None = None
        """Bytes that loaded models may take; ``None`` where nobody said."""
        self._ready = Gauge(
            "minivault_ready", "1 while a prompt for the default model would be answered", registry=self.registry
        )
        self._http = self._counter("minivault_http_requests", "HTTP requests answered", ("route", "method", "status"))
        self._rejected = self._counter("minivault_rejected_requests", "Requests refused before any work", ("reason",))
        self._limited = self._counter(
            "minivault_limit_refusals", "Requests refused by a client's own limit", ("limit",)
        )
        self._replays = self._counter("minivault_replays", "Replays by verdict", ("verdict",))
        self._texts = self._counter("minivault_embedded_texts", "Texts that came back as vectors")
        self._batches = self._counter("minivault_batches", "Batches by how they ended", ("status",))
        self._batch_lines = self._counter("minivault_batch_lines", "Lines of batches by result", ("result",))
        self._commit = self._histogram("minivault_ledger_commit_seconds", "Ledger commits", _COMMIT_SECONDS, ())
        self._group = self._histogram("minivault_ledger_group_records", "Leaves in one commit", _GROUP, ())
        self._prompt = self._counter("vllm:prompt_tokens", "Prompt tokens of recorded requests")
        self._generation = self._counter("vllm:generation_tokens", "Generated tokens of recorded requests")
        self._success = self._counter(
            "vllm:request_success", "Recorded requests by finish reason", (*_LABELS, "finished_reason")
        )
        self._first = self._histogram("vllm:time_to_first_token_seconds", "Time to the first token", _SECONDS)
        self._inter = self._histogram("vllm:inter_token_latency_seconds", "Time between tokens", _STEP_SECONDS)
        self._per_token = self._histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time per token after the first", _STEP_SECONDS
        )
        self._total = self._histogram("vllm:e2e_request_latency_seconds", "Time of a whole request", _SECONDS)
        self._queue = self._histogram("vllm:request_queue_time_seconds", "Time until the engine had it", _SECONDS)
        self._prefill = self._histogram("vllm:request_prefill_time_seconds", "Engine time to first token", _SECONDS)
        self._decode = self._histogram("vllm:request_decode_time_seconds", "Time after the first token", _SECONDS)
        self._prompt_size = self._histogram("vllm:request_prompt_tokens", "Prompt tokens of a request", _TOKENS)
        self._answer_size = self._histogram("vllm:request_generation_tokens", "Tokens of an answer", _TOKENS)
        self._limit_size = self._histogram(
            "vllm:request_max_num_generation_tokens", "Tokens a request allowed itself", _TOKENS
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """An alert sees the first increase of what was 0 before; a series that begins at 1 never increased."""
        for reason in _REASONS:
            self._rejected.labels(reason)
        for limit in ("requests", "tokens", "concurrent"):
            self._limited.labels(limit)
        for verdict in ("MATCH", "MISMATCH", "NOT COMPARABLE"):
            self._replays.labels(verdict)
        for status in ("completed", "failed", "expired", "cancelled"):
            self._batches.labels(status)
        for result in ("completed", "failed"):
            self._batch_lines.labels(result)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = _LABELS
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def watch_engine(self, source: Callable[[], Iterable[tuple[str, str, EngineStats]]]) -> None:
        """Read (model name, engine name, stats) of the loaded models at each scrape."""
        self.registry.register(_EngineCollector(source, self._loaded))

    def _loaded(self, model: str, engine: str) -> None:
        self._prompt.labels(model, engine)
        self._generation.labels(model, engine)
        for reason in FinishReason:
            self._success.labels(model, engine, reason.value)

    def watch_vault(self, source: Callable[[], VaultFigures]) -> None:
        self.registry.register(VaultCollector(source))

    def watch_models(self, states: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        """Read the pool's states at each scrape."""
        self.registry.register(ModelCollector(states, lambda: self.memory_budget))

    def step_observer(self, model: str, engine: str) -> Callable[[float], None]:
        """A function to call with the seconds since the previous step; labels are resolved once."""
        return self._inter.labels(model, engine).observe

    def ready(self, now: bool) -> None:
        """Whether a prompt for the default model would be answered."""
        self._ready.set(now)

    def answered(self, route: str, method: str, status: int) -> None:
        self._http.labels(route, method, str(status)).inc()

    def rejected(self, reason: str, limit: str | None = None) -> None:
        """``limit``: which of the client's own it was, if it was one: requests, tokens or concurrent."""
        self._rejected.labels(reason).inc()
        if limit is not None:
            self._limited.labels(limit).inc()

    def replayed(self, verdict: str) -> None:
        self._replays.labels(verdict).inc()

    def batch_ended(self, status: str) -> None:
        self._batches.labels(status).inc()

    def batch_line(self, *, failed: bool) -> None:
        """A line of a batch has its result."""
        self._batch_lines.labels("failed" if failed else "completed").inc()

    def commit_observed(self, seconds: float, leaves: int) -> None:
        self._commit.observe(seconds)
        self._group.observe(leaves)

    def finished(self, request: FinishedRequest) -> None:
        """Count a request whose outcome has just become durable."""
        labels = (request.model, request.engine)
        self._prompt.labels(*labels).inc(request.prompt_tokens)
        self._generation.labels(*labels).inc(request.completion_tokens)
        self._success.labels(*labels, request.finish_reason).inc()
        self._total.labels(*labels).observe(request.total_seconds)
        self._queue.labels(*labels).observe(request.queue_seconds)
        self._prompt_size.labels(*labels).observe(request.prompt_tokens)
        self._answer_size.labels(*labels).observe(request.completion_tokens)
        self._limit_size.labels(*labels).observe(request.max_tokens)
        if request.embedded_texts:
            self._texts.labels(*labels).inc(request.embedded_texts)
        first, decode = request.first_token_seconds, request.decode_seconds
        if first is None or decode is None:
            return
        self._first.labels(*labels).observe(first)
        self._prefill.labels(*labels).observe(max(0.0, request.total_seconds - decode - request.queue_seconds))
        self._decode.labels(*labels).observe(decode)
        if request.completion_tokens > 1:
            self._per_token.labels(*labels).observe(decode / (request.completion_tokens - 1))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """Turns engine statistics into metrics when they are asked for, so that the engine pays nothing."""

    def __init__(
        self, source: Callable[[], Iterable[tuple[str, str, EngineStats]]], seen: Callable[[str, str], None]
    ) -> None:
        self._source = source
        self._seen = seen

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        labels = list(_LABELS)
        running = GaugeMetricFamily("vllm:num_requests_running", "Sequences in the running batch", labels=labels)
        waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Sequences waiting for room", labels=labels)
        usage = GaugeMetricFamily("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0..1", labels=labels)
        preempted = CounterMetricFamily("vllm:num_preemptions", "Sequences preempted for room", labels=labels)
        queries = CounterMetricFamily("vllm:prefix_cache_queries", "Tokens sought in the prefix cache", labels=labels)
        hits = CounterMetricFamily("vllm:prefix_cache_hits", "Tokens found in the prefix cache", labels=labels)
        drafts = CounterMetricFamily("vllm:spec_decode_num_drafts", "Drafts made", labels=labels)
        drafted = CounterMetricFamily("vllm:spec_decode_num_draft_tokens", "Tokens drafted", labels=labels)
        accepted = CounterMetricFamily("vllm:spec_decode_num_accepted_tokens", "Drafted tokens accepted", labels=labels)
        upstreams = _Upstreams()
        for model, engine, stats in self._source():
            name = [model, engine]
            self._seen(model, engine)
            running.add_metric(name, stats.running)
            waiting.add_metric(name, stats.waiting)
            usage.add_metric(name, stats.kv_cache_usage)
            preempted.add_metric(name, stats.preemptions)
            queries.add_metric(name, stats.prefix_cache_queries)
            hits.add_metric(name, stats.prefix_cache_hits)
            drafts.add_metric(name, stats.spec_decode_num_drafts)
            drafted.add_metric(name, stats.spec_decode_num_draft_tokens)
            accepted.add_metric(name, stats.spec_decode_num_accepted_tokens)
            for upstream in stats.upstreams:
                upstreams.add(model, upstream)
        own = (running, waiting, usage, preempted, queries, hits, drafts, drafted, accepted)
        return (*own, *upstreams.families)


class _Upstreams:
    """What is told of the servers behind remote engines. Their addresses hold no credential."""

    def __init__(self) -> None:
        labels = ("model_name", "upstream")
        prefix = "minivault_upstream"
        self._healthy = GaugeMetricFamily(f"{prefix}_healthy", "1 while a server is well", labels=labels)
        self._in_flight = GaugeMetricFamily(f"{prefix}_in_flight", "Requests that a server has now", labels=labels)
        self._requests = CounterMetricFamily(f"{prefix}_requests", "Requests sent to a server", labels=labels)
        self._failures = CounterMetricFamily(f"{prefix}_failures", "Requests that it did not answer", labels=labels)
        self._retried = CounterMetricFamily(f"{prefix}_retried", "Of these, taken by another server", labels=labels)

    def add(self, model: str, stats: UpstreamStats) -> None:
        name = (model, stats.address)
        self._healthy.add_metric(name, float(stats.healthy))
        self._in_flight.add_metric(name, stats.in_flight)
        self._requests.add_metric(name, stats.requests)
        self._failures.add_metric(name, stats.failures)
        self._retried.add_metric(name, stats.retried)

    @property
    def families(self) -> tuple[Metric, ...]:
        return self._healthy, self._in_flight, self._requests, self._failures, self._retried
