"""Loads models into the Transformers engine, as the settings say. PyTorch is imported with the first of them.

Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivault.errors import ConfigError
from minivault.models import foreign
from minivault.models.catalog import ModelEntry
from minivault.models.json_file import read_json_object
from minivault.models.loaded_foreign import ForeignModel, load_foreign
from minivault.models.pooled import Report
from minivault.service.loading_native import KV_SHARE
from minivault.settings import Settings
from minivault.telemetry.logging import get_logger

if TYPE_CHECKING:
    from minivault.engine.engine import Engine

logger = get_logger(__name__)

NOT_INSTALLED = f"engine: the transformers engine is not installed: {foreign.EXTRA}"
_LEAST_CACHE = 16 << 20

_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
}
"""What families call their sizes."""


class TransformersLoader:
    """Implements :class:`minivault.models.pooled.ModelLoader`."""

    def __init__(self, settings: Settings, budget: int) -> None:
        self._settings = settings
        self._budget = budget

    def need(self, entry: ModelEntry) -> int:
        return self._weight_bytes(entry) + self._cache_bytes(entry)

    def load(self, entry: ModelEntry, report: Report) -> ForeignModel:
        if not foreign.is_transformers_installed():
            raise ConfigError(NOT_INSTALLED, param="engine")
        from minivault.engine.native.grammar import GrammarCompiler
        from minivault.engine.transformers.load import TransformersOptions, load_transformers_engine

        settings = self._settings
        options = TransformersOptions(
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            kv_cache_memory=settings.kv_cache_memory,
            host_cache_memory=self._cache_bytes(entry),
            max_batch_tokens=settings.max_batch_tokens,
            max_running=settings.max_running,
        )

        def engine(folder: Path) -> Engine:
            return load_transformers_engine(folder, options, max_waiting=settings.max_waiting)

        report("reading", 0, entry.size_bytes)
        model = load_foreign(entry, engine, GrammarCompiler, self.need(entry))
        info = model.engine.info
        logger.warning(
            "model runs on the transformers engine: its answers need not be the same bytes again",
            model=entry.name, build=info.build, arithmetic=info.arithmetic,
        )  # fmt: skip
        return model

    def _weight_bytes(self, entry: ModelEntry) -> int:
        """As they are stored, or twice that where 16 bits become 32."""
        stored = read_json_object(entry.path / "config.json")
        dtype = stored.get("dtype") or stored.get("torch_dtype")
        widened = self._settings.dtype == "float32" or (self._settings.dtype == "auto" and dtype == "float16")
        return entry.size_bytes * (2 if widened and dtype != "float32" else 1)

    def _cache_bytes(self, entry: ModelEntry) -> int:
        """As set; else a part of the budget, but no more than all sequences can use at full length."""
        if self._settings.kv_cache_memory:
            return self._settings.kv_cache_memory
        config = read_json_object(entry.path / "config.json")
        hidden, layers, context = (_size(config, names) for names in _NAMES.values())
        most = 2 * layers * hidden * 4 * context * self._settings.max_running
        return max(_LEAST_CACHE, min(most or self._budget, self._budget // KV_SHARE))


def _size(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), 0)
