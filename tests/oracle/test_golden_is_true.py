"""The golden files hold what Transformers computes today from the checkpoints beside them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.oracle.golden import GoldenCase, cases

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
        reason="PyTorch and Transformers are not installed: the golden files cannot be recomputed",
    ),
]
CASES = cases()


@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_golden_logits_and_greedy_tokens_are_the_oracles(case: GoldenCase) -> None:
    from tests.oracle.make_checkpoints import greedy, load_oracle, logits_of  # why here: it imports torch

    oracle = load_oracle(case.folder)
    logits = logits_of(oracle, case.prompt_ids).numpy()
    assert np.abs(logits - case.logits).max() <= 1e-5 * np.ptp(case.logits)
    assert greedy(oracle, case.prompt_ids)[0] == case.greedy
