"""A model that other servers run, ready to be asked. Otherwise as :mod:`minivault.models.loaded`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from minivault.models.lexicon import Lexicon

if TYPE_CHECKING:
    from minivault.engine.engine import Engine
    from minivault.models.chat_template import ChatTemplate
    from minivault.models.structure import Compiler


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """Owns its engine. What the servers have loaded, and how they tokenise, is not known here: no digest says so."""

    name: str
    engine: Engine
    tokenizer: Lexicon = field(default_factory=Lexicon)
    chat_template: ChatTemplate | None = None
    generation_defaults: Mapping[str, float | int] = field(default_factory=dict)
    eos_token_ids: tuple[int, ...] = ()
    weights_digest: str = ""
    tokenizer_digest: str = ""
    template_digest: str = ""
    grammars: Compiler | None = None
    memory_bytes: int = 0
    kind: str = "generation"

    def for_one_answer(self) -> RemoteModel:
        """This model with a lexicon of its own: token numbers mean something within one answer alone."""
        return replace(self, tokenizer=Lexicon())

    @property
    def broken(self) -> bool:
        """Its engine has stopped for good."""
        return self.engine.failure is not None

    async def close(self) -> None:
        await self.engine.close()
