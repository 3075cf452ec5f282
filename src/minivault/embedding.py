"""The words of embedding: texts in, a vector for each out. As :mod:`minivault.generation` has those of answering.

Frozen values from the standard library only. Knows nothing of HTTP, of models, of the vault or of time.
"""

from __future__ import annotations

from dataclasses import dataclass

from minivault.generation import RecordRef

MAX_TEXTS = 2048
"""Texts of one request."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed, after parsing: exactly one of ``texts`` and ``token_ids`` is not empty."""

    texts: tuple[str, ...] = ()
    token_ids: tuple[tuple[int, ...], ...] = ()
    """Texts that are tokens already, special ones included."""
    model: str | None = None
    """``None``: the server's default model."""
    truncate: bool = False
    """True: a text beyond the model's bound is cut to it. False: it is refused."""
    context_limit: int | None = None
    """No text has more tokens, even if the model takes more; ``truncate`` says what happens to one that has."""
    dimensions: int | None = None
    """So many numbers of each vector, scaled to length 1 again; ``None``: all."""
    keep_alive: float | None = None
    """Seconds that the model stays loaded after this; for ever if negative."""
    store: bool = True
    """False: the vault keeps commitments and drops the content."""
    request_id: str = ""
    surface: str = "native"
    source: str = "http"
    """``http`` or ``cli``."""
    ignored: tuple[str, ...] = ()
    raw_request: bytes = b""

    @property
    def count(self) -> int:
        """How many vectors are asked for."""
        return len(self.texts) or len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors whose outcome is durable."""

    id: str
    model: str
    vectors: tuple[bytes, ...]
    """Little-endian 32-bit floats."""
    width: int
    """Numbers of each."""
    prompt_tokens: int
    record: RecordRef
    generated_at: str
    """UTC, RFC 3339, ``Z``."""
    total_ns: int
    digest: str
    """``sha256:...`` over the vectors as the model gave them, one after the other; as recorded."""
