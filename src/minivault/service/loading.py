"""Which loader makes which entry of the catalog ready: a table by what runs it and what it is for.

The only place that knows every engine by name; each is imported where it is first needed. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minivault.errors import UnsupportedCheckpoint, UnsupportedFeature
from minivault.models.catalog import ModelEntry
from minivault.models.pooled import ModelLoader, PooledModel, Report
from minivault.models.shelf import AdapterLoader
from minivault.settings import Settings

LoaderFactory = Callable[[Settings, int], ModelLoader]
"""Makes a loader from the settings and the bytes that all models may take together."""


def _native(settings: Settings, budget: int) -> ModelLoader:
    from minivault.service.loading_native import NativeLoader

    return NativeLoader(settings, budget)


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
    ("native", "generation"): _native,
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
