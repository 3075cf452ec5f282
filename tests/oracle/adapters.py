"""Loads the golden files that ``make_adapters.py`` wrote. Needs no PyTorch; knows nothing of engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ADAPTER_DATA = Path(__file__).parent / "adapter_data"
GREEDY_TOKENS = 32


@dataclass(frozen=True)
class AdapterCase:
    """What PEFT computed in float32 for one adapter on one checkpoint of ``data/``."""

    name: str
    folder: Path
    base: str
    prompt_ids: list[int]
    logits: NDArray[np.float32]
    """[T, V]: row t follows prompt token t."""
    greedy: list[int]
    """32 tokens by argmax after the prompt."""


def adapter_case(name: str) -> AdapterCase:
    with np.load(ADAPTER_DATA / f"{name}.npz", allow_pickle=False) as stored:
        prompt, logits, tokens = stored["prompt_ids"].tolist(), stored["logits"], stored["greedy"].tolist()
        return AdapterCase(name, ADAPTER_DATA / name, str(stored["base"]), prompt, logits, tokens)


def adapter_cases() -> list[AdapterCase]:
    """All cases, by name."""
    return [adapter_case(path.stem) for path in sorted(ADAPTER_DATA.glob("*.npz"))]
