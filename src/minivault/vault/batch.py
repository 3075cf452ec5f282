"""What one transaction of the ledger writes: records, tree nodes, and the rows of ``calls``, as plain values.

Knows nothing of SQLite or of how the values came about.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minivault.vault.merkle import Node
from minivault.vault.record import SealedRecord


@dataclass(frozen=True, slots=True)
class CallStart:
    """What ``calls`` holds of an intent."""

    intent_index: int
    request_id: str
    time_ns: int
    model: str
    surface: str
    source: str
    api_key_id: str | None
    mode: str
    store: bool
    prompt_tokens: int
    repeat_key: int | None = None
    copy_of: int | None = None
    """A record of the call that this one holds anew."""

    def row(self) -> tuple[int | str | None, ...]:
        """Its values, in the order of the fields."""
        return (
            self.intent_index,
            self.request_id,
            self.time_ns,
            self.model,
            self.surface,
            self.source,
            self.api_key_id,
            self.mode,
            int(self.store),
            self.prompt_tokens,
            self.repeat_key,
            self.copy_of,
        )


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What ``calls`` holds of an outcome."""

    intent_index: int
    outcome_index: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    duration_ns: int | None
    searchable: bool

    def row(self) -> tuple[int | str | None, ...]:
        """The values that end a call, and the call they end."""
        return (
            self.outcome_index,
            self.prompt_tokens,
            self.completion_tokens,
            self.finish_reason,
            self.duration_ns,
            self.intent_index,
        )


@dataclass(frozen=True, slots=True)
class OpenCall:
    """An intent that has no outcome yet."""

    intent_index: int
    request_id: str
    store: bool
    prompt_tokens: int


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    records: list[SealedRecord] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    starts: list[CallStart] = field(default_factory=list)
    ends: list[CallEnd] = field(default_factory=list)
    erased: dict[int, int] = field(default_factory=dict)
    """Calls whose content goes, by the index of the intent, and the record that says so."""
