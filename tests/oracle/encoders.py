"""Loads the golden vectors that ``make_encoders.py`` wrote. Needs no PyTorch; knows nothing of engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "encoder_data"
MINILM = DATA / "minilm.npz"
DECODER_VECTORS = DATA / "decoders.npz"
DECODERS = ("llama-gqa", "gpt2", "gemma3", "falcon-new-decoder")
DECODER_TEXTS = [[1, 2, 3], [7] * 60, list(range(3, 50)), [9]]
TEXTS = (
    "This is an example sentence",
    "Each sentence is converted",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "MiniVault keeps every prompt and every answer in a vault on your disk.",
    "What is the capital of France?",
    "Paris is the capital and most populous city of France.",
    "stock markets fell sharply on Monday after the central bank raised rates",
    "How do I change the port that the server listens on?",
    "def f(x):\n    return x + 1",
    "Ein kurzer Satz auf Deutsch, mit Umlauten: für, über, größer.",
    "The quick brown fox jumps over the lazy dog. " * 24,
)
"""What the real encoder is asked; the last is nearly as long as it takes."""


@dataclass(frozen=True)
class GoldenTexts:
    """What Transformers computed in float32 for some texts."""

    texts: list[list[int]]
    vectors: NDArray[np.float32]
    """[texts, width]"""


def golden(path: Path) -> GoldenTexts:
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["lengths"])[:-1]
        return GoldenTexts([part.tolist() for part in np.split(stored["ids"], ends)], stored["vectors"])


def names() -> list[str]:
    """The tiny encoders."""
    return sorted(path.name for path in DATA.iterdir() if path.is_dir())
