"""Effective parameters: the caller's, else the checkpoint's, else neutral; and the context bound."""

from __future__ import annotations

from typing import Any

import pytest

from minivault.errors import ContextTooLong, InvalidRequest
from minivault.generation import SamplingParams
from minivault.models import parameters


def resolve(
    given: SamplingParams | None = None, defaults: dict[str, Any] | None = None, **bounds: Any
) -> SamplingParams:
    known: dict[str, Any] = {"prompt_tokens": 10, "context_length": 100, "default_max_tokens": 50, "seed": 5} | bounds
    longest = bounds.get("longest", known["context_length"])
    return parameters.resolve(given or SamplingParams(), defaults or {}, **(known | {"longest": longest}))


def test_the_caller_comes_before_the_checkpoint_and_the_checkpoint_before_neutral() -> None:
    found = resolve(SamplingParams(top_p=0.5), {"top_p": 0.9, "temperature": 0.7})
    assert (found.top_p, found.temperature, found.top_k, found.min_p) == (0.5, 0.7, 0, 0.0)


def test_nothing_but_logprobs_stays_open() -> None:
    found = parameters.to_record(resolve())
    assert [name for name, value in found.items() if value is None] == ["logprobs"]


def test_zero_is_a_value_and_no_gap() -> None:
    assert resolve(SamplingParams(temperature=0.0), {"temperature": 0.7}).temperature == 0.0


def test_a_seed_is_drawn_only_when_none_was_given() -> None:
    assert (resolve().seed, resolve(SamplingParams(seed=0)).seed) == (5, 0)


def test_the_default_of_max_tokens_is_cut_to_what_fits() -> None:
    assert resolve(prompt_tokens=80).max_tokens == 20


def test_max_tokens_that_does_not_fit_is_refused_with_the_lengths() -> None:
    with pytest.raises(ContextTooLong, match=r"10 tokens.*91.*100.*at most 90") as caught:
        resolve(SamplingParams(max_tokens=91))
    assert caught.value.param == "max_tokens"


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(ContextTooLong, match=r"100 tokens.*context is 100") as caught:
        resolve(prompt_tokens=100)
    assert caught.value.param == "prompt"


def test_min_tokens_lift_the_default_of_max_tokens() -> None:
    assert resolve(SamplingParams(min_tokens=70)).max_tokens == 70


def test_min_tokens_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most max_tokens, which is 90"):
        resolve(SamplingParams(min_tokens=91))


def test_min_tokens_above_max_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens must be at most max_tokens, which is 5"):
        resolve(SamplingParams(max_tokens=5, min_tokens=6))


def test_a_record_gives_the_same_parameters_back() -> None:
    found = resolve(SamplingParams(stop=("a", "b"), logit_bias=((3, 1.5),), stop_token_ids=(4,), seed=2**63 - 1))
    assert parameters.from_record(parameters.to_record(found)) == found


def test_a_limit_that_is_to_fit_is_cut_to_the_room_that_there_is() -> None:
    assert resolve(SamplingParams(max_tokens=1000), fit=True).max_tokens == 90
    assert resolve(SamplingParams(max_tokens=20), fit=True).max_tokens == 20
    assert resolve(fit=True).max_tokens == 50


def test_max_tokens_that_the_kv_cache_cannot_hold_is_refused_and_names_the_setting() -> None:
    with pytest.raises(ContextTooLong, match=r"10 tokens.*61.*at most 70.*at most 60.*kv_cache_memory") as caught:
        resolve(SamplingParams(max_tokens=61), longest=70)
    assert caught.value.param == "max_tokens"
    assert resolve(SamplingParams(max_tokens=60), longest=70).max_tokens == 60


def test_a_prompt_that_the_kv_cache_cannot_hold_is_refused_and_names_the_setting() -> None:
    with pytest.raises(ContextTooLong, match=r"70 tokens.*at most 70.*kv_cache_memory") as caught:
        resolve(prompt_tokens=70, longest=70)
    assert caught.value.param == "prompt"


def test_a_default_or_a_limit_that_is_to_fit_is_cut_to_what_the_kv_cache_holds() -> None:
    assert resolve(longest=40).max_tokens == 30
    assert resolve(SamplingParams(max_tokens=1000), fit=True, longest=40).max_tokens == 30
