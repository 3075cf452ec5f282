"""The sampler by itself: what it may choose, how often, and that what cannot come has no say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from minivault.engine.native import _native

KERNELS = _native.available_kernels()
VOCAB = 3000
HOPELESS = -1e30


def choose(logits: NDArray[np.float32], *, kernels: str = "scalar", mask: bytes | None = None, **given: Any) -> int:
    """The token chosen; -1 where none could be."""
    state = _native.SequenceState.make(prompt=[], **given)
    if mask is not None:
        state.allow(mask)
    one = _native.sample_once(state, logits, kernels)
    return one.token if one.finite else -1


def mask_of(allowed: list[int]) -> bytes:
    bits = np.zeros(-(-VOCAB // 32) * 32, dtype=np.uint8)
    bits[allowed] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def some_logits(live: int, seed: int) -> NDArray[np.float32]:
    """``live`` tokens that can come at all, spread over the vocabulary."""
    random = np.random.default_rng(seed)
    logits = np.full(VOCAB, HOPELESS, dtype=np.float32)
    logits[random.choice(VOCAB, live, replace=False)] = random.normal(0, 2, live)
    return logits


sampling = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([1e-300, 1e-6, 0.3, 0.7, 1.0, 5.0]),
        "top_k": st.sampled_from([0, 1, 4, 50, VOCAB]),
        "top_p": st.sampled_from([1e-9, 0.4, 0.9, 1.0]),
        "min_p": st.sampled_from([0.0, 0.2, 1.0]),
        "typical_p": st.sampled_from([1e-9, 0.5, 0.9, 1.0]),
        "seed": st.integers(0, 2**63 - 1),
    }
)


@given(live=st.integers(1, 40), seed=st.integers(0, 999), given=sampling)
def test_banning_what_cannot_come_changes_no_choice(live: int, seed: int, given: dict[str, Any]) -> None:
    logits = some_logits(live, seed)
    allowed = np.flatnonzero(logits > HOPELESS).tolist()
    free = choose(logits, **given)
    assert free in allowed
    assert choose(logits, mask=mask_of(allowed), **given) == free


@given(live=st.integers(1, 40), seed=st.integers(0, 999), given=sampling, kernels=st.sampled_from(KERNELS))
def test_kernel_sets_choose_alike(live: int, seed: int, given: dict[str, Any], kernels: str) -> None:
    logits = some_logits(live, seed)
    assert choose(logits, kernels=kernels, **given) == choose(logits, **given)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_mask_that_allows_nothing_gives_no_token(temperature: float) -> None:
    assert choose(some_logits(5, 1), mask=mask_of([]), temperature=temperature) == -1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_give_no_token(bad: float) -> None:
    logits = some_logits(5, 1)
    logits[7] = bad
    assert choose(logits, temperature=0.0) == -1


def test_ties_go_to_the_lower_id() -> None:
    logits = np.zeros(VOCAB, dtype=np.float32)
    assert choose(logits, temperature=0.0) == 0
    assert choose(logits, temperature=1.0, top_k=1, seed=5) == 0


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    logits = np.full(VOCAB, HOPELESS, dtype=np.float32)
    logits[[3, 900, 2500]] = np.log([0.5, 0.3, 0.2])
    counts = {3: 0, 900: 0, 2500: 0}
    for seed in range(4000):
        counts[choose(logits, temperature=1.0, seed=seed)] += 1
    assert [counts[token] / 4000 for token in (3, 900, 2500)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
