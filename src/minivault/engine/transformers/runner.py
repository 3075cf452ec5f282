"""Runs the scheduler's batches on a Transformers model: packed where the model allows it, else one by one.

Which way a model is run is not believed but tried when it is loaded: a way counts only if it gives the logits that the
model gives for the whole text at once. Sees tokens and arrays; knows nothing of queues, files or text. Owner: the
engine thread, once the engine has it.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

import torch

from minivault.engine.native.sampling import Sampler
from minivault.engine.native.sequence import Batch, BatchItem, SampledToken, SampledTokens, Sequence, State
from minivault.engine.transformers import alone, packed
from minivault.engine.transformers.alone import Memory

logger = logging.getLogger("minivault.engine")

BLOCK_SIZE = 16
_PROBE = 11
"""Tokens of a probe."""
_CLOSE = 2e-2
"""Share of the logits' range by which two ways may differ: 16-bit arithmetic in another order is not closer."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is run."""

    packed: bool
    memory: Memory

    def __str__(self) -> str:
        return "packed" if self.packed else f"one by one, {self.memory.value}"


class _Kept:
    """What the runner keeps of one sequence; it goes when the sequence lets go of it."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.sampler = Sampler(sequence)
        self.packed = packed.PackedKV()
        self.alone: Any = None
        self.computed = 0

    def forget(self) -> None:
        """Drop keys and values, not the sampler."""
        self.packed, self.alone, self.computed = packed.PackedKV(), None, 0


class TransformersRunner:
    """A model and what it keeps of each sequence. Implements :class:`minivault.engine.native.engine.Runner`."""

    speculation = False

    def __init__(self, model: Any, device: torch.device, num_blocks: int, vocab_size: int) -> None:
        """Takes over ``model``, and finds out how it can be run."""
        self._model: Any = model.eval()
        self._device = device
        self.block_size = BLOCK_SIZE
        self.num_blocks = num_blocks
        parameters = tuple(inspect.signature(model.forward).parameters)
        self._cache = alone.cache_name(parameters)
        self._keep = "logits_to_keep" in parameters
        self._all_kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        with torch.inference_mode():
            self.way = self._find_way([(7 * place + 3) % vocab_size for place in range(_PROBE)])

    def step(self, batch: Batch) -> SampledTokens:
        """Run a batch; one entry for each item, in order, empty where no sample was due."""
        for kept in list(self._all_kept):
            if kept.sequence.state is State.PREEMPTED:
                kept.forget()
        with torch.inference_mode():
            rows = self._packed_rows(batch) if self.way.packed else [self._alone_row(item) for item in batch]
        return [_chosen(item, row) for item, row in zip(batch, rows, strict=True)]

    def close(self) -> None:
        """Let go of the model."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    # -- running

    def _kept(self, item: BatchItem) -> _Kept:
        sequence = item.sequence
        kept = sequence.sampler_state
        if not isinstance(kept, _Kept):
            kept = sequence.sampler_state = _Kept(sequence)
            self._all_kept.add(kept)
        if item.start == 0:
            kept.forget()
        return kept

    def _packed_rows(self, batch: Batch) -> list[torch.Tensor | None]:
        segments = [packed.Segment(self._kept(item).packed, _tokens(item), item.start) for item in batch]
        rows = packed.forward(self._model, segments, self._device, keep=self._keep).float().cpu()
        return [row if item.sample else None for item, row in zip(batch, rows, strict=True)]

    def _alone_row(self, item: BatchItem) -> torch.Tensor | None:
        kept = self._kept(item)
        if not item.sample and self.way.memory is not Memory.CHUNKS:
            return None  # it runs with the chunk that ends the prompt
        end = item.start + item.count
        start = 0 if self.way.memory is Memory.NOTHING else kept.computed
        row, kept.alone = self._run_alone(item.sequence.token_ids[start:end], kept.alone)
        kept.computed = end
        return row.float().cpu() if item.sample else None

    def _run_alone(self, token_ids: Row[int], cache: Any) -> tuple[torch.Tensor, Any]:
        name = None if self.way.memory is Memory.NOTHING else self._cache
        return alone.forward(self._model, token_ids, cache, self._device, name=name, keep=self._keep)

    # -- finding the way

    def _find_way(self, probe: list[int]) -> Way:
        self.way = Way(packed=False, memory=Memory.NOTHING)
        whole = self._run_alone(probe, None)[0].float()
        memory = next((way for way in (Memory.CHUNKS, Memory.STEPS) if self._remembers(way, probe, whole)), None)
        if memory is None:
            logger.warning("This model keeps no cache that can be used: each token runs its whole sequence.")
        own = getattr(self._model.config, "_attn_implementation", None)
        if self._packs(probe, whole):
            return Way(packed=True, memory=memory or Memory.NOTHING)
        if own is not None:
            self._model.set_attn_implementation(own)
        return Way(packed=False, memory=memory or Memory.NOTHING)

    def _remembers(self, memory: Memory, probe: list[int], whole: torch.Tensor) -> bool:
        if self._cache is None:
            return False
        self.way = Way(packed=False, memory=memory)
        cuts = (4, 8, 9) if memory is Memory.CHUNKS else (9, 10)
        cache, row = None, whole
        try:
            for start, end in zip((0, *cuts), (*cuts, len(probe)), strict=True):
                row, cache = self._run_alone(probe[start:end], cache)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError):
            return False
        return cache is not None and _close(row.float(), whole)

    def _packs(self, probe: list[int], whole: torch.Tensor) -> bool:
        """Whether two sequences in one row, one of them going on from an earlier step, get what each would alone."""
        if not getattr(type(self._model), "_supports_attention_backend", False):
            return False
        first, other = packed.PackedKV(), packed.PackedKV()
        steps = [
            [packed.Segment(first, probe[:6], 0)],
            [packed.Segment(other, probe[3:], 0), packed.Segment(first, probe[6:10], 6)],
            [packed.Segment(first, probe[10:], 10)],
        ]
        try:
            alone_other = self._run_alone(probe[3:], None)[0].float()
            self._model.set_attn_implementation(packed.NAME)
            rows = [packed.forward(self._model, step, self._device, keep=self._keep) for step in steps]
        except (packed.NotPackable, TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
            return False
        return _close(rows[1][0].float(), alone_other) and _close(rows[2][0].float(), whole)


def _tokens(item: BatchItem) -> list[int]:
    return item.sequence.token_ids[item.start : item.start + item.count]


def _chosen(item: BatchItem, row: torch.Tensor | None) -> list[SampledToken]:
    if row is None:
        return []
    kept = item.sequence.sampler_state
    assert isinstance(kept, _Kept)  # noqa: S101 - put there when the row was computed
    return [kept.sampler.choose(row.numpy())]


def _close(row: torch.Tensor, other: torch.Tensor) -> bool:
    spread = (other.max() - other.min()).clamp_min(1e-6)
    return bool(torch.isfinite(row).all()) and bool((row - other).abs().max() <= _CLOSE * spread)
