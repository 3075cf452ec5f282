"""Answers from the record: a request that must be answered as an earlier one was gets that answer again.

What decides an answer's tokens is here in one place: the pin, the prompt's tokens, the effective parameters and the
form that the answer is held to; the seed only where tokens are drawn. A short digest of these finds earlier calls, and
each is compared in full. Knows nothing of HTTP, or of how records are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from minivault.engine.engine import TokenStep
from minivault.generation import FinishReason, SamplingParams
from minivault.vault.calls import CallDetail
from minivault.vault.record import Pin, canonical_json, pack_token_ids

_DECIDING = tuple(field.name for field in fields(SamplingParams) if field.name != "logprobs")
"""Log-probabilities tell of an answer and do not change it."""
_WHOLE = (FinishReason.STOP, FinishReason.LENGTH)
_TURN = 64
"""Tokens between two looks at whether somebody else waits for the event loop."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """The tokens of an earlier call."""

    index: int
    """Of the record that holds it: the outcome."""
    token_ids: tuple[int, ...]
    finish_reason: FinishReason


class RecordedTokens:
    """A recorded answer as an engine's stream, a token a step, so that it is shown as it was the first time."""

    def __init__(self, answer: RecordedAnswer) -> None:
        self._answer = answer
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    async def __aiter__(self) -> AsyncIterator[TokenStep]:
        for place, token_id in enumerate(self._answer.token_ids):
            if place % _TURN == 0:
                await asyncio.sleep(0)
            if self._cancelled:
                yield TokenStep((), finish_reason=FinishReason.CANCELLED)
                return
            yield TokenStep((token_id,))
        yield TokenStep((), finish_reason=self._answer.finish_reason)


def repeat_key(
    pin: Pin, prompt_token_ids: tuple[int, ...], parameters: Mapping[str, Any], ends: tuple[int, ...]
) -> int | None:
    """63 bits that are the same for calls that must be answered alike; ``None``: the engine promises no such thing.

    ``parameters`` are those of the record; ``ends`` are the tokens that end an answer.
    """
    if not pin.exact:
        return None
    asked = {"pin": asdict(pin), "parameters": _deciding(parameters), "ends": ends}
    digest = hashlib.sha256(b"minivault.repeat.v1:" + pack_token_ids(prompt_token_ids) + canonical_json(asked))
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def recorded_answer(
    calls: Iterable[CallDetail], pin: Pin, prompt_token_ids: tuple[int, ...], parameters: Mapping[str, Any]
) -> RecordedAnswer | None:
    """The first of ``calls`` that asked the same of the same, to its end; ``None`` if there is none."""
    wanted = json.loads(canonical_json({"pin": asdict(pin), "parameters": _deciding(parameters)}))
    for found in calls:
        ids, index, reason = found.response_token_ids, found.call.outcome_index, found.call.finish_reason
        if ids is None or index is None or reason not in _WHOLE or found.prompt_token_ids != prompt_token_ids:
            continue
        if wanted == {"pin": found.intent["pin"], "parameters": _deciding(found.parameters)}:
            return RecordedAnswer(index, ids, FinishReason(reason))
    return None


def _deciding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: parameters.get(name) for name in _DECIDING}
    if found["temperature"] == 0:
        del found["seed"]
    return found | {"response_format": parameters.get("response_format")}
