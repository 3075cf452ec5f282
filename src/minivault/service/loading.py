"""Which loader makes which entry of the catalog ready: a table by what runs it and what it is for.

The only place that knows every engine by name; each is imported where it is first needed. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from minivault.errors import UnsupportedCheckpoint, UnsupportedFeature
from minivault.models.adapter import opened_adapter
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.catalog import ModelEntry
from minivault.models.json_file import read_json_object
from minivault.models.loaded import LoadedModel, load_model
from minivault.models.pooled import ModelLoader, PooledModel, Report
from minivault.models.pooling import pooling_of
from minivault.models.shelf import AdapterLoader
from minivault.models.weights import WeightSet
from minivault.settings import Settings

if TYPE_CHECKING:
    from minivault.engine.engine import Engine
    from minivault.engine.native.runner import RunnerOptions

LoaderFactory = Callable[[Settings, int], ModelLoader]
"""Makes a loader from the settings and the bytes that all models may take together."""

KV_SHARE = 4
"""A model's KV cache gets at most this part of the budget, so that several models fit."""
LEAST_TOKENS = 2048
"""Of KV cache, below which a model is not worth loading (its context, if that is shorter)."""


class NativeLoader:
    """Loads models into the native engine, as the settings say."""

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
                self._options(self._cache_bytes(entry, arch)),
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

    def _options(self, cache_bytes: int) -> RunnerOptions:
        from minivault.engine.native.runner import RunnerOptions

        settings = self._settings
        return RunnerOptions(
            precision=settings.precision,
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
        return sizes.weight_bytes(arch, settings.precision, table_item) + sizes.working_bytes(
            arch, settings.max_batch_tokens, settings.max_running
        )

    def _cache_bytes(self, entry: ModelEntry, arch: Architecture) -> int:
        """As set; else a part of the budget, or what is left of it, but no more than can be of use."""
        from minivault.engine.native import sizes

        settings = self._settings
        block = sizes.block_bytes(arch, settings.precision)
        most = sizes.full_cache_bytes(arch, settings.precision, settings.max_running)
        if settings.kv_cache_memory:
            return max(block, min(most, settings.kv_cache_memory))
        least = block * -(-min(arch.context_length, LEAST_TOKENS) // sizes.BLOCK)
        left = self._budget - self._fixed_bytes(entry, arch)
        return max(min(most, least), min(most, self._budget // KV_SHARE, left))


def _transformers(settings: Settings, budget: int) -> ModelLoader:
    from minivault.service.loading_transformers import TransformersLoader

    return TransformersLoader(settings, budget)


def _remote(settings: Settings, budget: int) -> ModelLoader:
    from minivault.service.loading_remote import RemoteLoader

    return RemoteLoader(settings, budget)


def _embedding(settings: Settings, budget: int) -> ModelLoader:
    from minivault.service.loading_embedding import EmbeddingLoader

    return EmbeddingLoader(settings, budget)


LOADERS: Mapping[tuple[str, str], LoaderFactory] = {
    ("native", "generation"): NativeLoader,
    ("native", "embedding"): _embedding,
    ("transformers", "generation"): _transformers,
    ("remote", "generation"): _remote,
}
"""By the ``engine`` and the ``kind`` of an entry."""


def engine_of(entry: ModelEntry, wanted: str) -> str:
    """What runs ``entry`` where the setting ``engine`` is ``wanted``.

    Raises:
        UnsupportedCheckpoint: the native engine alone is wanted, and it cannot.
    """
    if entry.engine == "transformers" and wanted == "native":
        raise UnsupportedCheckpoint(f"The model {entry.name} is not for the native engine, and engine is native")
    # why not all: what runs elsewhere runs there, and encoders have an engine of their own
    return wanted if (entry.engine, entry.kind, wanted) == ("native", "generation", "transformers") else entry.engine


class Loaders:
    """Every loader as one: each entry goes to its own."""

    def __init__(
        self,
        settings: Settings,
        budget: int,
        table: Mapping[tuple[str, str], LoaderFactory] = LOADERS,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._table = table
        self._made: dict[tuple[str, str], ModelLoader] = {}

    def need(self, entry: ModelEntry) -> int:
        return self._of(entry).need(entry)

    def load(self, entry: ModelEntry, report: Report) -> PooledModel:
        return self._of(entry).load(entry, report)

    def adapter_need(self, entry: ModelEntry) -> int:
        return self._adapting(entry).adapter_need(entry)

    def adapt(self, entry: ModelEntry, base: PooledModel) -> PooledModel:
        return self._adapting(entry).adapt(entry, base)

    def _adapting(self, entry: ModelEntry) -> AdapterLoader:
        loader = self._of(entry.whole)
        if not isinstance(loader, AdapterLoader):
            raise UnsupportedFeature("adapters are for models on the native engine", param="model")
        return loader

    def _of(self, entry: ModelEntry) -> ModelLoader:
        engine = engine_of(entry, self._settings.engine)
        key = (engine, entry.kind)
        if key not in self._table:
            raise UnsupportedFeature(
                f"The model {entry.name} is for {entry.kind} on the {engine} engine, which this version lacks",
                param="model",
            )
        if key not in self._made:  # at its first use, for an engine takes long to import
            self._made[key] = self._table[key](self._settings, self._budget)
        return self._made[key]
