"""Recorded calls as readers get them: one, one in full, a page of them, and which are wanted. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minivault.vault.constraints import held, joined, named
from minivault.vault.record import format_time


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls; every field that is not ``None`` narrows. Times are nanoseconds since 1970, ``after`` inclusive."""

    query: str | None = None
    """Words that prompt or response must hold; words in double quotes must follow each other. Never raw syntax."""
    after_ns: int | None = None
    before_ns: int | None = None
    model: str | None = None
    api_key_id: str | None = None
    owner: str | None = None
    """Only calls of this key, whatever else is asked for: what somebody may see at all."""
    surface: str | None = None
    source: str | None = None
    finish_reason: str | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as lists show it. ``prompt`` and ``response`` are ``None`` where content was not stored or is erased."""

    index: int
    """Of its intent."""
    outcome_index: int | None
    """``None``: not ended yet."""
    id: str
    time_ns: int
    model: str
    surface: str
    source: str
    api_key_id: str | None
    mode: str
    store: bool
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int | None
    duration_ns: int | None
    prompt: str | None
    response: str | None
    erased_index: int | None = None
    """The record that says that its content was erased."""
    prompt_snippet: str | None = None
    """Around the words found, in a search; the beginning, where they are not found here."""
    response_snippet: str | None = None
    altered: bool = False
    """What is on record of it is not what its records commit to; ``False`` also where nobody looked."""

    @property
    def record_index(self) -> int:
        """The one index that people are shown: that of the receipt, the outcome's; the intent's until there is one."""
        return self.index if self.outcome_index is None else self.outcome_index

    @property
    def timestamp(self) -> str:
        """When the call was recorded: UTC, RFC 3339, nine digits."""
        return format_time(self.time_ns)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; ``altered`` is there only where it is true."""
        return {
            "index": self.index,
            "outcome_index": self.outcome_index,
            "id": self.id,
            "timestamp": self.timestamp,
            "model": self.model,
            "surface": self.surface,
            "source": self.source,
            "api_key_id": self.api_key_id,
            "mode": self.mode,
            "store": self.store,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens or 0,
                "total_tokens": self.prompt_tokens + (self.completion_tokens or 0),
            },
            "processing_time_ms": None if self.duration_ns is None else round(self.duration_ns / 1e6, 3),
            "prompt": self.prompt,
            "response": self.response,
            "erased_index": self.erased_index,
        } | ({"altered": True} if self.altered else {})


@dataclass(frozen=True, slots=True)
class CallDetail:
    """One call with all that is recorded of it."""

    call: Call
    intent: dict[str, Any]
    """The intent's leaf: pin, commitments, and the parameters without those that are content."""
    intent_leaf: str
    """The leaf's hash, 64 hex digits."""
    outcome: dict[str, Any] | None
    outcome_leaf: str | None
    prompt_token_ids: tuple[int, ...] | None
    response_token_ids: tuple[int, ...] | None
    salts: dict[str, str] | None = None
    """Of the commitments, 64 hex digits by kind of content; ``None`` where none is kept."""
    constraints: str | None = None
    """The content of this kind, JSON; ``None`` where the call has none, or none is kept."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Every effective parameter; those that are ``withheld`` are ``None``."""
        return joined(self._recorded, self.constraints)

    @property
    def withheld(self) -> tuple[str, ...]:
        """Dotted names of the parameters that were not stored or are erased: they were content."""
        found = held(self.constraints)
        return tuple(name for name in named(self._recorded) if name not in found)

    @property
    def _recorded(self) -> dict[str, Any]:
        """The parameters that are in the leaf; a leaf that is not checked may be anybody's."""
        parameters = self.intent.get("parameters")
        return parameters if isinstance(parameters, dict) else {}

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        record = None
        if self.call.outcome_index is not None:
            record = {"index": self.call.outcome_index, "leaf": self.outcome_leaf}
        return {
            **self.call.as_dict(),
            "prompt_token_ids": None if self.prompt_token_ids is None else list(self.prompt_token_ids),
            "response_token_ids": None if self.response_token_ids is None else list(self.response_token_ids),
            "commitments": (self.intent.get("commitments") or {}) | ((self.outcome or {}).get("commitments") or {}),
            "salts": self.salts,
            "constraints": self.constraints,
            "intent": {"index": self.call.index, "leaf": self.intent_leaf},
            "record": record,
            "pin": self.intent.get("pin"),
            "parameters": self.parameters,
            "ignored": self.intent.get("ignored"),
            "timings": None if self.outcome is None else self.outcome.get("timings"),
            "error": None if self.outcome is None else self.outcome.get("error"),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls; ``next_cursor`` asks for the page after it, ``None`` at the end."""

    calls: tuple[Call, ...]
    next_cursor: str | None
