"""What the metrics show of the vault: the ledger's state as numbers. A pure function; knows nothing of Prometheus."""

from __future__ import annotations

from datetime import datetime

from minivault.service.ports import LedgerState
from minivault.telemetry.gauges import VaultFigures


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


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
