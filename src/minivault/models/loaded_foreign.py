"""A model ready to answer on an engine that reads its folder itself. Otherwise as :mod:`minivault.models.loaded`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivault.models.catalog import ModelEntry
from minivault.models.chat_template import ChatTemplate
from minivault.models.loaded import GrammarFactory, generation_defaults
from minivault.models.structure import Compiler, LazyGrammars
from minivault.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from minivault.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """One model in memory. Owns its engine: close that, and the model is gone."""

    name: str
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generation_defaults: Mapping[str, float | int]
    eos_token_ids: tuple[int, ...]
    weights_digest: str
    tokenizer_digest: str
    template_digest: str
    engine: Engine
    grammars: Compiler | None
    memory_bytes: int = 0
    kind: str = "generation"

    @property
    def broken(self) -> bool:
        """Its engine has stopped for good."""
        return self.engine.failure is not None

    async def close(self) -> None:
        await self.engine.close()


def load_foreign(
    entry: ModelEntry, engine_factory: Callable[[Path], Engine], grammar_factory: GrammarFactory, memory_bytes: int = 0
) -> ForeignModel:
    """Have the engine made, and read what of ``entry``'s files is not its own.

    Raises:
        CheckpointError: the files are not sound, or not for this engine.
    """
    folder = entry.path
    engine = engine_factory(folder)
    width = engine.info.vocab_size
    tokenizer = Tokenizer.load(folder, embedding_rows=width)
    template = ChatTemplate.load(folder, tokenizer.special_tokens)
    ends = tokenizer.eos_token_ids
    return ForeignModel(
        name=entry.name,
        tokenizer=tokenizer,
        chat_template=template,
        generation_defaults=generation_defaults(folder),
        eos_token_ids=ends,
        weights_digest=entry.digest,
        tokenizer_digest=tokenizer.digest,
        template_digest="" if template is None else template.digest,
        engine=engine,
        grammars=LazyGrammars(lambda: grammar_factory(tokenizer.to_json(), width, ends)),
        memory_bytes=memory_bytes,
    )
