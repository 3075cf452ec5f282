"""Traces, if somebody wants them: a span for each HTTP request, and one for each recorded call.

What is here are values and the door; the spans themselves are made in :mod:`minivault.telemetry.otel`, which is
imported only when a collector is named. Knows nothing of HTTP's bodies, of engines or of the vault.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from minivault.errors import ConfigError

INSTALL = "pip install 'minivault[otel]'"


@dataclass(slots=True)
class TracedRequest:
    """An HTTP request. ``route`` and ``status`` are filled in before its block ends."""

    route: str | None = None
    status: int = 0


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call whose outcome is durable: what its span says."""

    operation: str
    """``chat``, ``text_completion`` or ``embeddings``."""
    model: str
    request_id: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    total_ns: int
    queue_ns: int
    first_token_ns: int | None
    """From its beginning; ``None`` where no token came."""
    record_index: int
    """Of its outcome in the vault."""
    parameters: Mapping[str, str | int | float | bool | tuple[str, ...]] = field(default_factory=dict)
    """Under the names of the conventions, without their prefix ``gen_ai.request.``."""
    as_json: bool = False
    """The answer was held to JSON."""
    messages: tuple[tuple[str, str], ...] = ()
    """Roles and texts. Leave the server only where content is asked for."""
    response: str = ""


class Tracing(Protocol):
    """Where spans go."""

    @property
    def wants_content(self) -> bool:
        """Whether prompts and answers belong into spans."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[TracedRequest]:
        """A span for the length of a block, child of the one that ``traceparent`` names, if one does."""

    def call(self, call: TracedCall) -> None:
        """A span of a call that has just ended, child of the request around it."""

    def close(self) -> None:
        """Send what is left. Blocking; may take seconds where the collector is gone."""


class NoTracing:
    """Nobody wants traces."""

    wants_content = False

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[TracedRequest]:
        return nullcontext(TracedRequest())

    def call(self, call: TracedCall) -> None:
        return

    def close(self) -> None:
        return


NO_TRACING = NoTracing()


def open_tracing(endpoint: str | None, *, content: bool = False) -> Tracing:
    """Tracing to the OTLP/HTTP collector at ``endpoint``; ``None``: none.

    Raises:
        ConfigError: the libraries for it are not installed.
    """
    if endpoint is None:
        return NO_TRACING
    try:
        from minivault.telemetry import otel
    except ImportError:
        raise ConfigError(f"otel_endpoint: traces need libraries that are not installed: {INSTALL}") from None
    return otel.OtelTracing(otel.exporter_to(endpoint), content=content)
