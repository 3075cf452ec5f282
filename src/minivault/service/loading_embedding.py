"""Loads encoders into the native engine, as the settings say. Knows nothing of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivault.models.catalog import ModelEntry
from minivault.models.encoder import EncoderArchitecture, EncoderWeights, read_encoder
from minivault.models.json_file import read_json_object
from minivault.models.loaded_embedding import LoadedEmbedding, load_embedding
from minivault.models.pooled import Report
from minivault.models.pooling import PoolingConfig
from minivault.settings import Settings

if TYPE_CHECKING:
    from minivault.models.loaded_embedding import EncoderEngine

_SCRATCH = 64 << 20
"""Bytes for the rows that are computed together and for the tokenizer."""


class EmbeddingLoader:
    """Implements :class:`minivault.models.pooled.ModelLoader`."""

    def __init__(self, settings: Settings, budget: int) -> None:
        self._settings = settings

    def need(self, entry: ModelEntry) -> int:
        """Tables stay as they are stored; matrices take the bytes of their lane."""
        arch = read_encoder(read_json_object(entry.path / "config.json"))
        matrices = arch.layers * (4 * arch.hidden_size + 2 * arch.intermediate_size) * arch.hidden_size
        stored = entry.size_bytes // max(1, arch.parameters)
        tables = (arch.parameters - matrices) * max(2, stored)
        return tables + matrices * (4 if self._settings.precision_of(entry.name) == "f32" else 1) + _SCRATCH

    def load(self, entry: ModelEntry, report: Report) -> LoadedEmbedding:
        # Imported here, in the loading thread: the compiled core takes its time, and a server answers meanwhile.
        from minivault.engine.native.encoder_runner import load_native_encoder
        from minivault.engine.native.runner import RunnerOptions

        settings = self._settings
        precision = settings.precision_of(entry.name)
        options = RunnerOptions(precision=precision, threads=settings.threads, kernels=settings.kernels)

        def engine(arch: EncoderArchitecture, weights: EncoderWeights, pooling: PoolingConfig) -> EncoderEngine:
            return load_native_encoder(arch, weights, pooling, options)

        report("reading", 0, entry.size_bytes)
        return load_embedding(entry, engine, self.need(entry))
