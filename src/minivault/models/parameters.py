"""Effective sampling parameters: what the caller gave, else the checkpoint's default, else the neutral value.

Pure functions over values. Knows nothing of tokens' text, engines or records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from minivault.errors import ContextTooLong, InvalidRequest
from minivault.generation import SamplingParams

NEUTRAL: Mapping[str, float | int] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
}
"""Values that change nothing, for what neither the caller nor the checkpoint says."""


def resolve(
    given: SamplingParams,
    defaults: Mapping[str, Any],
    *,
    prompt_tokens: int,
    context_length: int,
    longest: int,
    default_max_tokens: int,
    seed: int,
    vocab_size: int | None = None,
    fit: bool = False,
) -> SamplingParams:
    """Fill in every parameter. ``defaults`` are the checkpoint's; ``longest`` is what the KV cache leaves of the
    context; ``seed`` is used where the caller gave none; with ``fit``, a ``max_tokens`` that does not fit is cut.

    Raises:
        ContextTooLong: prompt and ``max_tokens`` do not fit ``context_length`` or ``longest``; names the lengths.
        InvalidRequest: ``min_tokens`` is above ``max_tokens``, or a token id is not below ``vocab_size``.
    """
    if vocab_size is not None:
        _check_ids("logit_bias", (token_id for token_id, _ in given.logit_bias), vocab_size)
        _check_ids("stop_token_ids", given.stop_token_ids, vocab_size)
    default = max(default_max_tokens, given.min_tokens)
    max_tokens = _max_tokens(given.max_tokens, default, prompt_tokens, context_length, longest, fit)
    if given.min_tokens > max_tokens:
        raise InvalidRequest(f"min_tokens must be at most max_tokens, which is {max_tokens}", param="min_tokens")
    filled = {
        name: value
        for name, neutral in NEUTRAL.items()
        if (value := _first(getattr(given, name), defaults.get(name), neutral)) is not None
    }
    return replace(given, max_tokens=max_tokens, seed=seed if given.seed is None else given.seed, **filled)


def to_record(sampling: SamplingParams) -> dict[str, Any]:
    """The parameters as plain JSON values, for the record."""
    values = asdict(sampling)
    values["logit_bias"] = [list(pair) for pair in sampling.logit_bias]
    values["stop"] = list(sampling.stop)
    values["stop_token_ids"] = list(sampling.stop_token_ids)
    return values


def from_record(values: Mapping[str, Any]) -> SamplingParams:
    """The inverse of :func:`to_record`; names it does not know are left out."""
    known = {field.name: values[field.name] for field in fields(SamplingParams) if field.name in values}
    for name in ("stop", "stop_token_ids"):
        known[name] = tuple(known.get(name) or ())
    known["logit_bias"] = tuple((int(token), float(bias)) for token, bias in known.get("logit_bias") or ())
    return SamplingParams(**known)


def _max_tokens(
    given: int | None, default: int, prompt_tokens: int, context_length: int, longest: int, fit: bool
) -> int:
    room = context_length - prompt_tokens
    if room < 1:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens and the model's context is {context_length}: "
            "there is no room for an answer",
            param="prompt",
        )
    held = min(room, longest - prompt_tokens)
    if held < 1:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens, and with an answer the KV cache here holds at most {longest}: "
            "shorten the prompt, or raise kv_cache_memory",
            param="prompt",
        )
    if given is None or fit:
        return min(default if given is None else given, held)
    if given > room:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens, max_tokens is {given}, and the model's context is "
            f"{context_length}: max_tokens can be at most {room}",
            param="max_tokens",
        )
    if given > held:
        raise ContextTooLong(
            f"the prompt has {prompt_tokens} tokens, max_tokens is {given}, and the KV cache here holds at most "
            f"{longest}: max_tokens can be at most {held}, or raise kv_cache_memory",
            param="max_tokens",
        )
    return given


def _check_ids(name: str, ids: Iterable[int], vocab_size: int) -> None:
    if not all(0 <= token_id < vocab_size for token_id in ids):
        raise InvalidRequest(f"{name}: token ids must lie in 0 to {vocab_size - 1}", param=name)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
