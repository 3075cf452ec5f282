"""Runs batches on the C++ core: packs a checkpoint's weights once, then turns each batch into one call.

Sees tokens, blocks and arrays; knows nothing of queues, fairness, text or requests. Owner: the engine thread, once the
engine has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minivault.control_group import usable_cores
from minivault.engine.native import _native
from minivault.engine.native.packing import Packer, Precision, core_spec, packed_key, set_hidden_norm
from minivault.engine.native.sampling import hold_to_constraint, sampled_token, sampler_state
from minivault.engine.native.sequence import Batch, SampledToken, SampledTokens
from minivault.engine.native.turns import TURN
from minivault.errors import ConfigError
from minivault.models.description import Architecture
from minivault.models.memory import free_memory
from minivault.models.weights import WeightSet

ARITHMETIC: dict[Precision, str] = {"int8": "int8-g32-v1", "int4": "int4-g32-v1", "f32": "f32-v1"}
"""The arithmetic profile of each lane. A change that can change a bit of any logit must change the name."""


logger = logging.getLogger("minivault.engine")

WORTH_KEEPING = 64 << 20
"""Bytes of packed weights from which keeping them saves time that a person notices."""


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    precision: Precision = "int8"
    threads: int = 0
    """0: one for each core that this process may use."""
    kernels: str = "auto"
    kv_cache_memory: int = 0
    """Bytes; 0: a quarter of the memory that is free."""
    max_batch_tokens: int = 512
    max_running: int = 64
    speculation: bool = True
    """Draft tokens from what a sequence has said before, and run them along; never changes a byte."""


class NativeRunner:
    """The packed weights, the KV cache and the threads that compute. Build it with :meth:`load`."""

    def __init__(self, core: _native.Core, num_blocks: int, *, speculation: bool = True) -> None:
        self._core: _native.Core | None = core
        self.num_blocks = num_blocks
        self.speculation = speculation
        self.kernels = core.kernels
        self.threads = core.threads
        self.weight_bytes = core.weight_bytes
        self.cache_bytes = core.cache_bytes

    @property
    def block_size(self) -> int:
        return _native.BLOCK_SIZE

    @property
    def core(self) -> _native.Core | None:
        """For whoever packs an adapter into it; ``None`` once the runner is closed."""
        return self._core

    @classmethod
    def load(
        cls,
        arch: Architecture,
        weights: WeightSet,
        options: RunnerOptions | None = None,
        *,
        weights_digest: str = "",
        packed_dir: Path | None = None,
        report: Callable[[float], None] = lambda share: None,
    ) -> NativeRunner:
        """Pack the weights and make room for the KV cache. The weights' views are not needed afterwards.

        With ``packed_dir`` and the digest of the source, packed weights are kept there and mapped at the next start.
        ``report`` is called with the share of the weights that are packed, 0..1.

        Raises:
            ConfigError: kernels that this machine does not have, or KV memory too small for one block.
        """
        options = options or RunnerOptions()
        spec = core_spec(arch, options.precision)
        num_blocks = _num_blocks(arch, spec, options)
        core = _native.Core(spec, choose_kernels(options.kernels), options.threads or usable_cores())
        key = packed_key(weights_digest, options.precision)
        path = None if packed_dir is None or not weights_digest else packed_dir / f"{key.hex()}.packed"
        found = path is not None and core.load_packed(str(path), key)
        if not found:
            Packer(core, arch, weights, options.precision, report).pack()
        set_hidden_norm(core, arch, weights)
        core.finish(num_blocks, options.max_batch_tokens)
        if path is not None and not found and core.weight_bytes >= WORTH_KEEPING:
            _keep(core, path, key)
        return cls(core, num_blocks, speculation=options.speculation)

    def step(self, batch: Batch) -> SampledTokens:
        """Run a batch; one entry for each item, empty where no sample was due. The GIL is free meanwhile."""
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        if any(item.sequence.adapter is not None for item in batch):
            return self._step_in_groups(batch)
        return self._run(batch)

    def _step_in_groups(self, batch: Batch) -> SampledTokens:
        """Sequences of one adapter next to each other, so that they share the reading of it. No order changes a bit."""
        order = sorted(range(len(batch)), key=lambda index: id(batch[index].sequence.adapter))
        found = dict(zip(order, self._run([batch[index] for index in order]), strict=True))
        return [found[index] for index in range(len(batch))]

    def _run(self, batch: Batch) -> SampledTokens:
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        states, tokens, starts = [], [], []
        broken: dict[int, str] = {}
        for place, item in enumerate(batch):
            sequence = item.sequence
            state = sequence.sampler_state
            if not isinstance(state, _native.SequenceState):
                state = sequence.sampler_state = sampler_state(sequence)
                if sequence.pooling:
                    state.keep_pooled(sequence.pooling, sequence.normalized)
                if isinstance(sequence.adapter, _native.Adapter):
                    state.adapt(sequence.adapter)
            state.sync_blocks(sequence.block_table)
            if item.sample and (fault := hold_to_constraint(sequence, state)) is not None:
                broken[place] = fault  # it runs along, and what comes of it is dropped
            states.append(state)
            tokens.append(sequence.token_ids[item.start : item.start + item.count] + item.draft)
            starts.append(item.start)
        sample, drafted = [item.sample for item in batch], [len(item.draft) for item in batch]
        with TURN:
            sampled = self._core.step(states, tokens, starts, sample, drafted)
        for item, state in zip(batch, states, strict=True):
            if item.sequence.pooling and item.sample:
                item.sequence.vector = vector_bytes(self._core.pooled(state))
        return [
            [SampledToken(0, error=broken[place])]
            if place in broken
            else [sampled_token(item.sequence, one) for one in row]
            for place, (item, row) in enumerate(zip(batch, sampled, strict=True))
        ]

    def logits(
        self,
        token_ids: Row[int],
        *,
        chunks: Row[int] | None = None,
        blocks: Row[int] | None = None,
        adapter: _native.Adapter | None = None,
    ) -> NDArray[np.float32]:
        """Logits ``[len(token_ids), vocab_size]`` of one sequence run alone, in ``chunks`` of so many tokens each.

        For measuring quality and for tests; not to be mixed with ``step``, whose blocks it overwrites.
        """
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        needed = -(-len(token_ids) // self.block_size)
        state = _native.SequenceState.make(prompt=[])
        state.blocks = list(blocks or range(needed))
        if adapter is not None:
            state.adapt(adapter)
        rows, start = [], 0
        for count in chunks or [len(token_ids)]:
            rows.append(self._core.forward([state], [list(token_ids[start : start + count])], [start]))
            start += count
        return np.concatenate(rows)

    def close(self) -> None:
        """Free the weights, the KV cache and the threads."""
        self._core = None


def vector_bytes(vector: NDArray[np.float32]) -> bytes | None:
    """Little-endian 32-bit floats; ``None`` for a vector that is not finite."""
    return vector.astype("<f4").tobytes() if np.isfinite(vector).all() else None


def _keep(core: _native.Core, path: Path, key: bytes) -> None:
    """Keep packed weights for the next start; a disk that does not take them costs time then, and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = core.save_packed(str(path), key)
    except OSError:
        kept = False
    if not kept:
        logger.warning("Packed weights could not be kept; the next start will pack them again.")


def choose_kernels(wanted: str) -> str:
    """The kernel set to use: the best there is for ``auto``.

    Raises:
        ConfigError: this machine or this build does not have it.
    """
    available = _native.available_kernels()
    if wanted == "auto":
        return available[0]
    if wanted not in available:
        raise ConfigError(f"kernels: this machine has {', '.join(available)}", param="kernels")
    return wanted


def _num_blocks(arch: Architecture, spec: dict[str, Any], options: RunnerOptions) -> int:
    """As many blocks as the memory allows, but no more than all sequences can use at full length."""
    memory = options.kv_cache_memory or free_memory() // 4
    most = options.max_running * -(-arch.context_length // _native.BLOCK_SIZE)
    blocks = min(most, memory // _native.block_bytes(spec))
    if blocks < 1:
        raise ConfigError(
            f"kv_cache_memory: must be at least {_native.block_bytes(spec)} bytes for this model",
            param="kv_cache_memory",
        )
    return blocks
