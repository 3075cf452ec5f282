"""What the metrics show of the vault and of a call that has ended, as numbers. Pure; knows nothing of Prometheus."""

from __future__ import annotations

from datetime import datetime

from minivault.generation import FinishReason
from minivault.service.ports import LedgerState
from minivault.service.prepared import Prepared
from minivault.service.texts import PreparedTexts
from minivault.telemetry.gauges import VaultFigures
from minivault.telemetry.metrics import FinishedRequest
from minivault.vault.record import Outcome


def figures_of(state: LedgerState, now: str) -> VaultFigures:
    """``now``: the time, RFC 3339."""
    return VaultFigures(
        records=state.records,
        writable=state.writable,
        open_calls=state.open_calls,
        unsigned_records=max(0, state.tree_size - state.head_size),
        head_age_seconds=None if state.signed_at is None else max(0.0, _seconds(now) - _seconds(state.signed_at)),
        head_failing=state.head_error is not None,
        mirror_failing=state.mirror_error is not None,
    )


def finished_request(prepared: Prepared | PreparedTexts, outcome: Outcome) -> FinishedRequest:
    """A call whose outcome is durable."""
    first, decode = outcome.timings.get("first_token_ns"), outcome.timings.get("decode_ns")
    embedded = outcome.finish_reason == FinishReason.STOP
    return FinishedRequest(
        model=prepared.model.name,
        engine=prepared.model.engine.info.name,
        finish_reason=outcome.finish_reason,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        max_tokens=prepared.sampling.max_tokens or 0,
        queue_seconds=outcome.timings["queue_ns"] / 1e9,
        first_token_seconds=None if first is None else first / 1e9,
        decode_seconds=None if decode is None else decode / 1e9,
        total_seconds=outcome.timings["total_ns"] / 1e9,
        embedded_texts=len(prepared.texts) if embedded and isinstance(prepared, PreparedTexts) else 0,
    )


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
