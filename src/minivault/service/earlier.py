"""A call of the past, as far as a conversation needs it to go on. Knows nothing of what the request's body means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from minivault.errors import UnknownRecord, VaultCorrupt
from minivault.generation import FinishReason
from minivault.vault.reader import CallDetail

_NOTHING_KEPT = "no such response in the vault, or nothing is kept of it"
_ALTERED = "what the vault has of this response is not what was recorded: it was altered in the file; run vault verify"


class BodyReader(Protocol):
    """The vault, read. Blocking: called in a thread."""

    def get(self, id_or_index: str | int, /, *, owner: str | None = None) -> CallDetail: ...

    def raw_request(self, index: int, /) -> bytes | None: ...

    def is_sound(self, index: int, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """A call that ended, with the content that is kept of it."""

    id: str
    model: str
    time_ns: int
    """Nanoseconds since 1970."""
    body: bytes
    """The request, as it came; empty for a choice after the first, whose body is the first's."""
    response: str
    finish_reason: FinishReason | None
    """``None``: it has not ended."""
    prompt_tokens: int
    completion_tokens: int
    tool_dialect: str | None
    """How its answer calls tools, if there were any."""
    reasoning: str | None
    """Where its answer reasons, if it may."""

    @property
    def whole(self) -> bool:
        """Whether its answer came to its end."""
        return self.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)


def fingerprint_of(pin: Mapping[str, Any]) -> str:
    """A word that stays the same as long as weights, tokenizer, template and engine do."""
    return "fp_" + hashlib.sha256(json.dumps(dict(pin), sort_keys=True).encode()).hexdigest()[:12]


def earlier_call(
    reader: BodyReader, record_id: str, surface: str, *, owner: str | None = None, whole: bool = True
) -> EarlierCall:
    """The call ``record_id`` of ``surface``; ``owner``: the only key whose calls may be seen. ``whole``: only if its
    answer came to its end.

    Raises:
        UnknownRecord: there is none, or its content was erased or never stored.
        VaultCorrupt: what is on record of it is not what was recorded.
    """
    detail = reader.get(record_id, owner=owner)
    call = detail.call
    if call.surface != surface:
        raise UnknownRecord(_NOTHING_KEPT)
    if not reader.is_sound(call.index):
        raise VaultCorrupt(_ALTERED)
    body = reader.raw_request(call.index)
    found = EarlierCall(
        id=call.id,
        model=call.model,
        time_ns=call.time_ns,
        body=body or b"",
        response=call.response or "",
        finish_reason=None if call.finish_reason is None else FinishReason(call.finish_reason),
        prompt_tokens=call.prompt_tokens,
        completion_tokens=call.completion_tokens or 0,
        tool_dialect=detail.intent.get("parameters", {}).get("tool_dialect"),
        reasoning=detail.intent.get("parameters", {}).get("reasoning"),
    )
    lost = not call.store or body is None or (found.whole and call.response is None)
    bare = not body and not detail.intent.get("parameters", {}).get("choice")
    if lost or bare or (whole and not found.whole):
        raise UnknownRecord(_NOTHING_KEPT)
    return found
