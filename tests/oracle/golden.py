"""Loads the golden files that ``make_checkpoints.py`` wrote. Needs no PyTorch; knows nothing of engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class GoldenCase:
    """What Transformers computed in float32 for one checkpoint in its true format."""

    name: str
    folder: Path
    prompt_ids: list[int]
    logits: NDArray[np.float32]
    """[T, V]: row t follows prompt token t."""
    greedy: list[int]
    """64 tokens by argmax after the prompt; an end of sequence does not end them."""


def case(name: str) -> GoldenCase:
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as stored:
        return GoldenCase(name, DATA / name, stored["prompt_ids"].tolist(), stored["logits"], stored["greedy"].tolist())


def folder_of(name: str) -> Path:
    """The checkpoint of a case."""
    return DATA / name


def cases() -> list[GoldenCase]:
    """All cases, by name."""
    return [case(path.stem) for path in sorted(DATA.glob("*.npz"))]
