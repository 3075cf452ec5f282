"""The bounds of a service. Values; knows nothing of where they are set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of the service, from the settings."""

    default_max_tokens: int = 256
    max_running: int = 64
    max_waiting: int = 256
    max_waiting_tokens: int = 500_000
    request_timeout: float | None = None
    """Most seconds that any request may take; ``None``: no end."""
    abort_grace: float = 5.0
    """Seconds that aborted generations have to tell their readers and be recorded, at the end of a drain."""
