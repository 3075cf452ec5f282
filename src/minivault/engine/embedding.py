"""What embeds is to the rest of the house: the tokens of texts in, a vector for each text out.

Knows nothing of text, HTTP, SQLite or JSON. *The law* holds here too: a text's vector is a function of the weights and
of its own tokens, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EmbeddingInfo:
    """What is known of an embedder's vectors."""

    width: int
    """Numbers of a vector."""
    max_tokens: int
    """Tokens of the longest text, special ones included."""
    normalized: bool
    """Vectors have length 1."""
    pooling_digest: str
    """``sha256:...`` of how tokens' vectors become one; pinned in every record."""


class EmbeddingJob(Protocol):
    """Texts on their way to vectors. Owned by the event loop."""

    async def vectors(self) -> tuple[bytes, ...]:
        """One for each text, in order: ``width`` little-endian 32-bit floats. Cancelling the wait cancels the job.

        Raises:
            EngineFailed: the engine broke or was closed.
        """

    def cancel(self) -> None:
        """Leave out what has not begun. Idempotent; :meth:`vectors` then raises ``EngineFailed``."""


class Embedder(Protocol):
    @property
    def embedding(self) -> EmbeddingInfo: ...

    def embed(self, texts: Sequence[Sequence[int]], *, fairness_key: str = "") -> EmbeddingJob:
        """Queue texts and return at once. Must be called on a running event loop.

        Raises:
            InvalidRequest: a text has no tokens, too many, or one that the model does not have.
            EngineFailed: the engine has stopped.
        """
