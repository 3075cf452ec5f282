"""Loads models into the native engine, as the settings say: what they will need, their options, their adapters.

Knows nothing of requests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from minivault.errors import UnsupportedFeature
from minivault.models.adapter import opened_adapter
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.catalog import ModelEntry
from minivault.models.json_file import read_json_object
from minivault.models.loaded import LoadedModel, load_model
from minivault.models.pooled import PooledModel, Report
from minivault.models.pooling import pooling_of
from minivault.models.weights import WeightSet
from minivault.settings import Settings

if TYPE_CHECKING:
    from minivault.engine.engine import Engine
    from minivault.engine.native.runner import RunnerOptions

KV_SHARE = 4
"""A model's KV cache gets at most this part of the budget, so that several models fit."""
LEAST_TOKENS = 2048
"""Of KV cache, below which a model is not worth loading (its context, if that is shorter)."""


class NativeLoader:
    """Implements :class:`minivault.models.pooled.ModelLoader`, and :class:`minivault.models.shelf.AdapterLoader`."""

    def __init__(self, settings: Settings, budget: int) -> None:
        self._settings = settings
        self._budget = budget

    def need(self, entry: ModelEntry) -> int:
        arch = read_architecture(read_json_object(entry.path / "config.json"))
        return self._fixed_bytes(entry, arch) + self._cache_bytes(entry, arch)

    def load(self, entry: ModelEntry, report: Report) -> LoadedModel:
        # Imported here, in the loading thread: the compiled core takes its time, and a server answers meanwhile.
        from minivault.engine.native.grammar import GrammarCompiler
        from minivault.engine.native.load import load_native_engine

        def engine(arch: Architecture, weights: WeightSet) -> Engine:
            return load_native_engine(
                arch,
                weights,
                self._options(entry, self._cache_bytes(entry, arch)),
                max_waiting=self._settings.max_waiting,
                weights_digest=entry.digest,
                packed_dir=self._settings.packed_dir,
                report=lambda share: report("packing", int(share * entry.size_bytes), entry.size_bytes),
                pooling=pooling_of(entry.path),
            )

        report("reading", 0, entry.size_bytes)
        model = load_model(entry, engine, GrammarCompiler)
        arch = model.architecture
        return replace(model, memory_bytes=self._fixed_bytes(entry, arch) + self._cache_bytes(entry, arch))

    def adapter_need(self, entry: ModelEntry) -> int:
        with opened_adapter(entry.path, entry.whole.path) as adapter:
            return adapter.memory_bytes

    def adapt(self, entry: ModelEntry, base: PooledModel) -> LoadedModel:
        from minivault.engine.native.adapter import adapted
        from minivault.engine.native.engine import NativeEngine

        if not isinstance(base, LoadedModel) or not isinstance(base.engine, NativeEngine):
            raise UnsupportedFeature("adapters are for models on the native engine", param="model")
        with opened_adapter(entry.path, entry.whole.path) as adapter:
            engine, memory_bytes = adapted(base.engine, adapter, entry.digest)
        return replace(base, name=entry.name, weights_digest=entry.digest, engine=engine, memory_bytes=memory_bytes)

    def _options(self, entry: ModelEntry, cache_bytes: int) -> RunnerOptions:
        from minivault.engine.native.runner import RunnerOptions

        settings = self._settings
        return RunnerOptions(
            precision=settings.precision_of(entry.name),
            threads=settings.threads,
            kernels=settings.kernels,
            kv_cache_memory=cache_bytes,
            max_batch_tokens=settings.max_batch_tokens,
            max_running=settings.max_running,
            speculation=settings.speculation,
        )

    def _fixed_bytes(self, entry: ModelEntry, arch: Architecture) -> int:
        """All but the KV cache."""
        from minivault.engine.native import sizes

        settings = self._settings
        table_item = 4 if entry.size_bytes > 3 * entry.parameters else 2
        return sizes.weight_bytes(arch, settings.precision_of(entry.name), table_item) + sizes.working_bytes(
            arch, settings.max_batch_tokens, settings.max_running
        )

    def _cache_bytes(self, entry: ModelEntry, arch: Architecture) -> int:
        """As set; else a part of the budget, or what is left of it, but no more than can be of use."""
        from minivault.engine.native import sizes

        settings, precision = self._settings, self._settings.precision_of(entry.name)
        block = sizes.block_bytes(arch, precision)
        most = sizes.full_cache_bytes(arch, precision, settings.max_running)
        if settings.kv_cache_memory:
            return max(block, min(most, settings.kv_cache_memory))
        least = block * -(-min(arch.context_length, LEAST_TOKENS) // sizes.BLOCK)
        left = self._budget - self._fixed_bytes(entry, arch)
        return max(min(most, least), min(most, self._budget // KV_SHARE, left))
