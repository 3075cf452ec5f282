"""What is read anew at each scrape: the state of the vault and of the models in memory.

Values come from callables that the service hands over, so nothing is paid between scrapes. Knows nothing of the vault
or the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class VaultFigures:
    """What the vault says of itself."""

    records: int
    writable: bool
    open_calls: int = 0
    unsigned_records: int = 0
    """Records that no signed head covers yet."""
    head_age_seconds: float | None = None
    """``None``: no head was signed yet."""
    head_failing: bool = False
    mirror_failing: bool = False


class VaultCollector(Collector):
    """:class:`VaultFigures` as gauges."""

    def __init__(self, source: Callable[[], VaultFigures]) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        figures = self._source()
        yield _gauge("records", "Records in the vault", figures.records)
        yield _gauge("vault_writable", "1 while records can be written", figures.writable)
        yield _gauge("open_calls", "Calls that have begun and have no outcome yet", figures.open_calls)
        yield _gauge("unsigned_records", "Records that no signed head covers yet", figures.unsigned_records)
        yield _gauge("head_failing", "1 while no new head can be signed, or exported", figures.head_failing)
        yield _gauge("mirror_failing", "1 while log.jsonl cannot be written", figures.mirror_failing)
        age = GaugeMetricFamily(
            "minivault_head_age_seconds", "Seconds since the newest head was signed; none before the first"
        )
        if figures.head_age_seconds is not None:
            age.add_metric((), figures.head_age_seconds)
        yield age


class ModelCollector(Collector):
    """The models in memory, on their way there, or failed to get there, as the pool's ``states`` has them."""

    def __init__(self, states: Callable[[], Mapping[str, Mapping[str, Any]]], budget: Callable[[], int | None]) -> None:
        self._states = states
        self._budget = budget

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        states = self._states()
        counts = dict.fromkeys(("waiting", "loading", "loaded", "leaving", "failed"), 0)
        memory = GaugeMetricFamily(
            "minivault_model_memory_bytes", "Memory that a model takes, or that is kept for it", labels=["model_name"]
        )
        in_use = GaugeMetricFamily("minivault_model_in_use", "Requests that hold a model", labels=["model_name"])
        for name, state in states.items():
            counts[state["state"]] = counts.get(state["state"], 0) + 1
            memory.add_metric((name,), state["memory_bytes"])
            in_use.add_metric((name,), state["in_use"])
        models = GaugeMetricFamily("minivault_models", "Models by where they are on their way", labels=["state"])
        for word, count in counts.items():
            models.add_metric((word,), count)
        yield from (models, memory, in_use)
        if (budget := self._budget()) is not None:
            yield _gauge("model_memory_budget_bytes", "Memory that loaded models may take together", budget)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"minivault_{name}", text, value=float(value))
