"""Every metric that was promised is there, and what an alert waits for begins at zero."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from minivault.access.caller import Caller
from minivault.engine.engine import EngineStats
from minivault.errors import RateLimited
from minivault.generation import GenerationRequest
from minivault.service.figures import figures_of
from minivault.service.replay import ReplayVerdict
from minivault.telemetry.gauges import VaultFigures
from minivault.telemetry.metrics import FinishedRequest, Metrics
from minivault.vault.status import LedgerStatus
from tests.fakes import make_bench, says

PROMISED = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:spec_decode_num_drafts_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_max_num_generation_tokens",
    "minivault_ledger_commit_seconds",
    "minivault_ledger_group_records",
    "minivault_ready",
    "minivault_records",
    "minivault_head_age_seconds",
    "minivault_rejected_requests_total",
    "minivault_limit_refusals_total",
    "minivault_models",
    "minivault_model_memory_bytes",
    "minivault_batches_total",
    "minivault_batch_lines_total",
    "minivault_embedded_texts_total",
]
LABELS = '{engine="native",model_name="guide"}'


def watched() -> Metrics:
    metrics = Metrics()
    metrics.watch_engine(lambda: [("guide", "native", EngineStats(0, 0, 0.0))])
    metrics.watch_models(lambda: {"guide": {"state": "loaded", "memory_bytes": 7, "in_use": 2}})
    metrics.watch_vault(lambda: VaultFigures(4, True, unsigned_records=3, head_age_seconds=1.5))
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    metrics.render()  # what is seen at one scrape is there at the next
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_metric_is_exposed(name: str) -> None:
    assert f"# TYPE {name} " in watched().render().decode()


def test_alerts_see_the_first_increase() -> None:
    found = samples(watched())
    for verdict in ReplayVerdict:
        assert found[f'minivault_replays_total{{verdict="{verdict}"}}'] == 0
    for reason in ("overloaded", "limits_unavailable"):
        assert found[f'minivault_rejected_requests_total{{reason="{reason}"}}'] == 0
    assert found['vllm:request_success_total{engine="native",finished_reason="failed",model_name="guide"}'] == 0
    assert found['minivault_batch_lines_total{result="failed"}'] == 0


def test_models_are_counted_by_state_with_their_memory() -> None:
    metrics = watched()
    metrics.memory_budget = 100
    found = samples(metrics)
    assert found['minivault_models{state="loaded"}'] == 1
    assert found['minivault_models{state="failed"}'] == 0
    assert found['minivault_model_memory_bytes{model_name="guide"}'] == 7
    assert found['minivault_model_in_use{model_name="guide"}'] == 2
    assert found["minivault_model_memory_budget_bytes"] == 100


def test_the_age_of_the_head_runs_from_its_signature() -> None:
    state = LedgerStatus(2, 5, "0" * 64, True, None, 1, "disk", head_size=3, signed_at="2026-01-01T00:00:00.000Z")
    figures = figures_of(state, datetime(2026, 1, 1, 0, 1, tzinfo=UTC).isoformat())
    assert figures == VaultFigures(2, True, 1, 2, 60.0, head_failing=False, mirror_failing=True)


def test_without_a_head_there_is_no_age() -> None:
    metrics = Metrics()
    metrics.watch_vault(lambda: VaultFigures(0, True))
    assert "minivault_head_age_seconds" not in samples(metrics)


def test_a_refusal_says_which_limit_it_was() -> None:
    metrics = Metrics()
    metrics.rejected(RateLimited.code, "tokens")
    metrics.rejected("overloaded")
    found = samples(metrics)
    assert found['minivault_limit_refusals_total{limit="tokens"}'] == 1
    assert found['minivault_limit_refusals_total{limit="requests"}'] == 0
    assert found['minivault_rejected_requests_total{reason="rate_limit_exceeded"}'] == 1


def test_texts_that_came_back_as_vectors_are_counted() -> None:
    metrics = Metrics()
    metrics.finished(FinishedRequest("guide", "native", "stop", 9, 0, 0, 0.0, None, None, 0.1, embedded_texts=3))
    assert samples(metrics)[f"minivault_embedded_texts_total{LABELS}"] == 3


async def test_a_service_shows_its_vault_and_its_models() -> None:
    bench = make_bench(says("abc"))
    await bench.service.generate(GenerationRequest(prompt="hi"), Caller("local"))
    found = samples(bench.service.metrics)
    assert found["minivault_records"] == 1
    assert found["minivault_unsigned_records"] == 2
    assert found['minivault_models{state="loaded"}'] == 1
