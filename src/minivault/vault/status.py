"""What a ledger tells of itself. A plain value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """A snapshot of the ledger; safe to read from any thread."""

    records: int
    """Leaves: two a call that has ended."""
    tree_size: int
    root: str
    """64 hex digits."""
    writable: bool
    reason: str | None
    """Why it is not writable."""
    open_calls: int
    """Intents that have no outcome yet."""
    mirror_error: str | None
    """Why ``log.jsonl`` lags behind; ``None`` when it does not."""
    head_size: int = 0
    """Records that the newest signed head covers."""
    signed_at: str | None = None
    """When it was signed: UTC, RFC 3339."""
    head_error: str | None = None
    """Why no newer head could be signed, or why the newest is not where it is to be exported to."""
