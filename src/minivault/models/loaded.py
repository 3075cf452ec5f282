"""A model ready to answer: its engine, tokenizer, template and defaults, with the digests that a record pins.

The engine is made by whoever composes the program and passed in; this module knows the protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivault.errors import CheckpointCorrupt
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.catalog import ModelEntry
from minivault.models.chat_template import ChatTemplate
from minivault.models.checkpoint import Checkpoint
from minivault.models.json_file import read_json_object, read_optional_json_object
from minivault.models.structure import Compiler, LazyGrammars
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import WeightSet, weight_map

if TYPE_CHECKING:
    from minivault.engine.embedding import Embedder
    from minivault.engine.engine import Engine

EngineFactory = Callable[[Architecture, WeightSet], "Engine"]
"""Makes an engine from views into the mapped checkpoint; the views die when it returns."""

GrammarFactory = Callable[[str, int, tuple[int, ...]], Compiler]
"""Makes a compiler of grammars from a ``tokenizer.json``, the width of the logits and the ids that end an answer."""

_DEFAULTS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 1 << 20),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "repetition_penalty": (1e-3, 100.0),
}
"""Sampling parameters that generation_config.json may set, with their bounds."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model in memory. Owns its engine: close that, and the model is gone."""

    name: str
    architecture: Architecture
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generation_defaults: Mapping[str, float | int]
    """Sampling parameters by their names in ``SamplingParams``, those alone that the checkpoint sets."""
    eos_token_ids: tuple[int, ...]
    weights_digest: str
    tokenizer_digest: str
    template_digest: str
    """Empty without a template."""
    engine: Engine
    grammars: Compiler | None = None
    """``None``: its engine cannot hold answers to a form."""
    memory_bytes: int = 0
    """What it takes; 0 where nobody can tell."""

    @property
    def kind(self) -> str:
        """Of :data:`minivault.models.catalog.KINDS`."""
        return "generation"

    @property
    def embedder(self) -> Embedder | None:
        """``None``: its engine does not embed."""
        found: Embedder | None = getattr(self.engine, "embedder", None)
        return found

    @property
    def broken(self) -> bool:
        """Its engine has stopped for good."""
        return self.engine.failure is not None

    async def close(self) -> None:
        """Close its engine."""
        await self.engine.close()


def load_model(
    entry: ModelEntry, engine_factory: EngineFactory, grammar_factory: GrammarFactory | None = None
) -> LoadedModel:
    """Read ``entry``'s files and have its engine made.

    Raises:
        CheckpointError: the files are not sound, or not for this engine.
    """
    folder = entry.path
    arch = read_architecture(read_json_object(folder / "config.json"))
    tokenizer = Tokenizer.load(folder, embedding_rows=arch.vocab_size)
    template = ChatTemplate.load(folder, tokenizer.special_tokens)
    defaults = generation_defaults(folder)
    with Checkpoint.open(folder) as checkpoint:
        engine = engine_factory(arch, weight_map(arch, checkpoint))
    width, ends = arch.vocab_size, tokenizer.eos_token_ids
    make = grammar_factory
    return LoadedModel(
        name=entry.name,
        architecture=arch,
        tokenizer=tokenizer,
        chat_template=template,
        generation_defaults=defaults,
        eos_token_ids=tokenizer.eos_token_ids,
        weights_digest=entry.digest,
        tokenizer_digest=tokenizer.digest,
        template_digest="" if template is None else template.digest,
        engine=engine,
        grammars=None if make is None else LazyGrammars(lambda: make(tokenizer.to_json(), width, ends)),
    )


def generation_defaults(folder: Path) -> dict[str, float | int]:
    """The sampling parameters that ``generation_config.json`` sets. ``do_sample: false`` means temperature 0.

    Raises:
        CheckpointCorrupt: one is not a number, or out of bounds.
    """
    config = read_optional_json_object(folder / "generation_config.json")
    found: dict[str, float | int] = {}
    for name, (least, most) in _DEFAULTS.items():
        value = config.get(name)
        if value is None:
            continue
        kinds = int if name == "top_k" else int | float
        if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
            raise CheckpointCorrupt(f"generation_config.json: {name} must be a number from {least:g} to {most:g}")
        found[name] = value
    if config.get("do_sample") is False:
        found["temperature"] = 0.0
    return found
