"""Is a recorded answer what the model gives again: what can be compared, and the comparison. Pure.

Knows nothing of how a replay is run, or of how the verdict is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from minivault.engine.engine import EngineInfo
from minivault.generation import FinishReason, RecordRef
from minivault.vault.reader import CallDetail
from minivault.vault.record import Pin


class ReplayVerdict(StrEnum):
    """What a replay found."""

    MATCH = "MATCH"
    """Every token is the same."""
    MISMATCH = "MISMATCH"
    """A token differs, and the first such position is named; or what is on record is not what its records commit to."""
    NOT_COMPARABLE = "NOT COMPARABLE"
    """No replay of this record can prove anything here; the reason is named."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The verdict on one recorded call."""

    verdict: ReplayVerdict
    reason: str | None = None
    """Why it is not comparable, or a mismatch that no token shows."""
    position: int | None = None
    """Index of the first token that differs, from 0."""
    expected_token_id: int | None = None
    """The recorded token there; ``None`` where the record had ended."""
    actual_token_id: int | None = None
    compared_tokens: int = 0
    record: RecordRef | None = None
    """The outcome of the replay, which is itself a recorded call."""


ALTERED = "what is on record of it is not what was committed to: it was altered; run vault verify"

_WHOLE = (FinishReason.STOP, FinishReason.LENGTH)
_BEGUN = (FinishReason.CANCELLED, FinishReason.FAILED, FinishReason.INTERRUPTED)


def why_never_comparable(recorded: CallDetail) -> str | None:
    """The reason why no run of any model would prove anything about ``recorded``; ``None`` if one might."""
    if recorded.call.surface == "import":
        return "it was imported: how it was answered is not on record"
    if recorded.call.finish_reason is None:
        return "the call has not ended"
    if recorded.call.erased_index is not None:
        return "its content was erased"
    if recorded.prompt_token_ids is None or recorded.response_token_ids is None or recorded.withheld:
        return "its content was never stored"
    if not recorded.response_token_ids and recorded.call.finish_reason in _BEGUN:
        return "no token of its answer is on record"
    return None


def why_not_comparable(recorded: CallDetail, now: Pin) -> str | None:
    """The reason why running ``recorded`` on the model pinned by ``now`` would prove nothing; ``None`` if it would."""
    pin = recorded.intent.get("pin") or {}
    if not pin.get("exact") or not now.exact:
        return "the engine does not promise the same bytes for the same request"
    for name, said in (
        ("weights_digest", "it was answered by other weights"),
        ("tokenizer_digest", "it was answered with another tokenizer"),
        ("engine", "it was answered by another engine"),
        ("arithmetic", "it was answered in another arithmetic"),
    ):
        if pin.get(name) != getattr(now, name):
            return said
    return None


def why_too_long(recorded: CallDetail, info: EngineInfo) -> str | None:
    """As :func:`why_not_comparable`, of how much of an answer the engine here could hold."""
    prompt = len(recorded.prompt_token_ids or ())
    if prompt >= info.context_length:
        return "its prompt does not fit the model's context here"
    most = recorded.intent.get("parameters", {}).get("max_tokens") or 1
    if min(prompt + most, info.context_length) > info.longest:
        return "its prompt and max_tokens do not fit the KV cache here: raise kv_cache_memory"
    return None


def why_form_not_comparable(recorded: CallDetail, compiler: str | None) -> str | None:
    """As :func:`why_not_comparable`, of an answer that was held to a form; ``compiler`` compiles grammars here."""
    asked = recorded.intent.get("parameters", {}).get("response_format")
    if not asked:
        return None
    if compiler is None:
        return "this engine cannot hold answers to a form"
    if asked.get("compiler") != compiler:
        return "its form was held by another grammar compiler"
    return None


def compare(recorded: Sequence[int], finish_reason: str, again: Sequence[int]) -> ReplayResult:
    """Compare token by token. Of a call that was cut short, what there is must begin ``again``."""
    for position, (expected, actual) in enumerate(zip(recorded, again, strict=False)):
        if expected != actual:
            return _mismatch(position, expected, actual)
    shared = min(len(recorded), len(again))
    if len(again) < len(recorded):
        return _mismatch(shared, recorded[shared], None)
    if len(again) > len(recorded) and finish_reason in _WHOLE:
        return _mismatch(shared, None, again[shared])
    return ReplayResult(ReplayVerdict.MATCH, compared_tokens=shared)


def _mismatch(position: int, expected: int | None, actual: int | None) -> ReplayResult:
    return ReplayResult(
        ReplayVerdict.MISMATCH,
        position=position,
        expected_token_id=expected,
        actual_token_id=actual,
        compared_tokens=position,
    )
