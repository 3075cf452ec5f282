"""The embedded model as the quality tests take it: its weights, with and without made outliers, and text for it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

import minivault
from minivault.engine.native.packing import Precision
from minivault.engine.native.runner import NativeRunner, RunnerOptions
from minivault.generation import Message
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.chat_template import ChatTemplate
from minivault.models.checkpoint import Checkpoint, TensorView
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import LinearSource, WeightSet, sources, weight_map

FOLDER = Path(minivault.__file__).parent / "guide"
FACTOR = 64.0
CHANNELS = (3, 77, 130, 201)
WINDOW = 256
WINDOWS = 24
UNSEEN_SEED = 987_654


@cache
def checkpoint() -> tuple[Architecture, WeightSet]:
    arch = read_architecture(json.loads((FOLDER / "config.json").read_text()))
    return arch, weight_map(arch, Checkpoint.open(FOLDER))


class WithOutliers(Mapping[str, LinearSource | tuple[LinearSource, ...]]):
    """The same function in exact arithmetic: some channels of each norm grow, the columns that read them shrink."""

    def __init__(self, weights: WeightSet) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> LinearSource:
        (source,) = sources(self._weights, name)
        values = _floats(source)
        if re.search(r"_norm\.weight$", name) and "final" not in name:
            values[list(CHANNELS)] *= np.float32(FACTOR)
        elif re.search(r"\.(q|k|v|gate|up)\.weight$", name):
            values[:, list(CHANNELS)] /= np.float32(FACTOR)
        return LinearSource(TensorView("F32", source.shape, memoryview(values.tobytes())), 0, source.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class AsQ40(Mapping[str, LinearSource | tuple[LinearSource, ...]]):
    """The matrices of the layers as GGUF's Q4_0 gives them back; the rest as it is."""

    def __init__(self, weights: WeightSet) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> LinearSource:
        (source,) = sources(self._weights, name)
        if not re.search(r"\.(q|k|v|o|gate|up|down)\.weight$", name):
            return source
        kind = gguf.GGMLQuantizationType.Q4_0
        values = gguf.quants.dequantize(gguf.quants.quantize(_floats(source), kind), kind)
        return LinearSource(TensorView("F32", source.shape, memoryview(values.tobytes())), 0, source.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _floats(source: LinearSource) -> NDArray[np.float32]:
    assert source.view.dtype == "BF16"
    raw = np.frombuffer(source.view.data, dtype="<u2").astype(np.uint32) << 16
    return raw.view(np.float32).reshape(source.view.shape).copy()


@cache
def tokens() -> list[int]:
    """Conversations that the training's generator draws from a seed of ours, as one run of tokens."""
    sys.path.append(str(Path(__file__).parents[2] / "training" / "guide"))
    corpus = importlib.import_module("corpus")
    tokenizer = Tokenizer.load(FOLDER)
    template = ChatTemplate.load(FOLDER, tokenizer.special_tokens)
    assert template is not None
    found: list[int] = []
    for sample in corpus.samples(UNSEEN_SEED):
        if len(found) >= WINDOWS * WINDOW:
            break
        if isinstance(sample, corpus.Text):
            continue
        turns = [] if sample.system is None else [Message("system", sample.system)]
        for turn in sample.turns:
            turns += [Message("user", turn.question), Message("assistant", turn.answer)]
        found += tokenizer.encode(template.render(turns, add_generation_prompt=False), add_special_tokens=False)
    return found[: WINDOWS * WINDOW]


@cache
def log_probabilities(precision: Precision, outliers: bool = False) -> NDArray[np.float64]:
    """``[windows * WINDOW, vocab]`` over windows of the text, each from its own start."""
    arch, weights = checkpoint()
    return _run(arch, WithOutliers(weights) if outliers else weights, precision)


@cache
def log_probabilities_of_q4_0() -> NDArray[np.float64]:
    """As :func:`log_probabilities`, of weights that went through Q4_0, in unquantised arithmetic."""
    arch, weights = checkpoint()
    return _run(arch, AsQ40(weights), "f32")


def _run(arch: Architecture, weights: WeightSet, precision: Precision) -> NDArray[np.float64]:
    run = NativeRunner.load(arch, weights, RunnerOptions(precision=precision, kv_cache_memory=1 << 24))
    text = tokens()
    rows = [run.logits(text[start : start + WINDOW]) for start in range(0, len(text), WINDOW)]
    run.close()
    logits = np.concatenate(rows).astype(np.float64)
    shifted: NDArray[np.float64] = logits - logits.max(axis=-1, keepdims=True)
    total: NDArray[np.float64] = np.exp(shifted).sum(axis=-1, keepdims=True)
    return shifted - np.log(total)


def perplexity(log_probability: NDArray[np.float64]) -> float:
    """Of each window's tokens but its first."""
    text = np.array(tokens()[: len(log_probability)]).reshape(-1, WINDOW)
    by_window = log_probability.reshape(len(text), WINDOW, -1)
    picked = np.take_along_axis(by_window[:, :-1], text[:, 1:, None], axis=2)
    return float(np.exp(-picked.mean()))


def divergence(reference: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Mean Kullback-Leibler divergence, in nats a token."""
    return float((np.exp(reference) * (reference - found)).sum(axis=-1).mean())
