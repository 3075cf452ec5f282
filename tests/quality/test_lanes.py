"""The quality bars of the lanes, on trained weights: what rounding may cost against the checkpoint's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quality.guide import divergence, log_probabilities, log_probabilities_of_q4_0, perplexity


def test_int8_perplexity_is_within_one_percent_of_f32() -> None:
    assert perplexity(log_probabilities("int8")) <= 1.01 * perplexity(log_probabilities("f32"))


def test_int8_diverges_by_at_most_five_thousandths_of_a_nat() -> None:
    assert divergence(log_probabilities("f32"), log_probabilities("int8")) <= 0.005


def test_made_outliers_do_not_change_the_function() -> None:
    plain, outliers = log_probabilities("f32"), log_probabilities("f32", outliers=True)
    assert np.abs(plain - outliers).max() < 1e-2


def test_int8_with_made_outliers_is_within_two_percent_of_f32() -> None:
    assert perplexity(log_probabilities("int8", outliers=True)) <= 1.02 * perplexity(log_probabilities("f32"))


@pytest.mark.parametrize("outliers", [False, True])
def test_int4_perplexity_is_within_five_percent_of_f32(outliers: bool) -> None:
    assert perplexity(log_probabilities("int4", outliers)) <= 1.05 * perplexity(log_probabilities("f32"))


def test_int4_costs_no_more_than_q4_0_of_the_same_weights() -> None:
    reference, ours, other = log_probabilities("f32"), log_probabilities("int4"), log_probabilities_of_q4_0()
    # Rounding blunts a model that is too sure of itself, and may better its perplexity: below that of f32 there is no
    # cost to compare, and the divergence tells which is nearer.
    assert perplexity(ours) <= max(perplexity(reference), perplexity(other))
    assert divergence(reference, ours) <= divergence(reference, other)
