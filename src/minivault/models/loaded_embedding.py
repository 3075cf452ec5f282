"""A model ready to embed: its encoder, tokenizer and the digests that a record pins.

The encoder is made by whoever composes the program and passed in; this module knows protocols alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from minivault.models.catalog import ModelEntry
from minivault.models.checkpoint import Checkpoint
from minivault.models.encoder import EncoderArchitecture, EncoderWeights, encoder_weights, read_encoder
from minivault.models.json_file import read_json_object
from minivault.models.pooling import PoolingConfig, read_pooling
from minivault.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minivault.engine.embedding import Embedder
    from minivault.engine.engine import Engine

    class EncoderEngine(Engine, Embedder, Protocol):
        """An engine that embeds, and answers nothing."""


EncoderFactory = Callable[[EncoderArchitecture, EncoderWeights, PoolingConfig], "EncoderEngine"]
"""Makes an encoder from views into the mapped checkpoint; the views die when it returns."""


@dataclass(frozen=True, slots=True)
class LoadedEmbedding:
    """One embedding model in memory. Owns its engine: close that, and the model is gone."""

    name: str
    architecture: EncoderArchitecture
    tokenizer: Tokenizer
    weights_digest: str
    tokenizer_digest: str
    engine: EncoderEngine
    lower_case: bool = False
    """Texts are made lower case before they become tokens."""
    memory_bytes: int = 0
    """What it takes; 0 where nobody can tell."""

    @property
    def kind(self) -> str:
        """Of :data:`minivault.models.catalog.KINDS`."""
        return "embedding"

    @property
    def embedder(self) -> Embedder:
        return self.engine

    @property
    def template_digest(self) -> str:
        """Such a model has no template: the digest of how it pools takes its place in records."""
        return self.engine.embedding.pooling_digest

    @property
    def broken(self) -> bool:
        """Its engine has stopped for good."""
        return self.engine.failure is not None

    async def close(self) -> None:
        """Close its engine."""
        await self.engine.close()


def load_embedding(entry: ModelEntry, factory: EncoderFactory, memory_bytes: int = 0) -> LoadedEmbedding:
    """Read ``entry``'s files and have its encoder made.

    Raises:
        CheckpointError: the files are not sound, or not for this engine.
    """
    folder = entry.path
    arch = read_encoder(read_json_object(folder / "config.json"))
    tokenizer = Tokenizer.load(folder, embedding_rows=arch.vocab_size)
    pooling = read_pooling(folder)
    with Checkpoint.open(folder) as checkpoint:
        engine = factory(arch, encoder_weights(arch, checkpoint), pooling)
    return LoadedEmbedding(
        name=entry.name,
        architecture=arch,
        tokenizer=tokenizer,
        weights_digest=entry.digest,
        tokenizer_digest=tokenizer.digest,
        engine=engine,
        lower_case=pooling.lower_case,
        memory_bytes=memory_bytes,
    )
