"""Who asks. Knows nothing of HTTP headers or of keys' secrets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The one on whose behalf a request runs."""

    address: str
    """Network address of the client, or ``local`` for the command line."""
    api_key_id: str | None = None
    """Public id of the key that was shown; never the key."""

    @property
    def fairness_key(self) -> str:
        """Callers with equal keys share one turn in the engine and one rate limit."""
        return self.api_key_id or self.address
