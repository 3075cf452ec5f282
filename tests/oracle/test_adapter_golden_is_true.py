"""The golden files of adapters hold what PEFT computes today from the adapters beside them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.oracle.adapters import AdapterCase, adapter_cases

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft")),
        reason="PyTorch, Transformers and PEFT are not installed: the golden files cannot be recomputed",
    ),
]
CASES = adapter_cases()


@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_golden_logits_and_greedy_tokens_are_pefts(case: AdapterCase) -> None:
    from tests.oracle.make_adapters import adapted_oracle, greedy  # why here: these import torch
    from tests.oracle.make_checkpoints import logits_of

    oracle = adapted_oracle(case.base, case.folder)
    logits = logits_of(oracle, case.prompt_ids).numpy()
    assert np.abs(logits - case.logits).max() <= 1e-5 * np.ptp(case.logits)
    assert greedy(oracle, case.prompt_ids)[0] == case.greedy
