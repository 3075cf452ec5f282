"""Runs batches on the C++ core: packs a checkpoint's weights once, then turns each batch into one call.

Sees tokens, blocks and arrays; knows nothing of queues, fairness, text or requests. Owner: the engine thread, once the
engine has it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from minivault.engine.native import _native
from minivault.engine.native.sampling import sampler_state, token_logprob
from minivault.engine.native.sequence import Batch, SampledToken, SampledTokens, Sequence
from minivault.errors import CheckpointCorrupt, ConfigError
from minivault.models.architecture import Architecture, RopeScaling
from minivault.models.weights import LinearSource, WeightSet

Precision = Literal["int8", "int4", "f32"]

ARITHMETIC: dict[Precision, str] = {"int8": "int8-g32-v1", "int4": "int4-g32-v1", "f32": "f32-v1"}
"""The arithmetic profile of each lane. A change that can change a bit of any logit must change the name."""


TOO_COMPLEX = "The grammar became too complex to follow."
_LAYER_NORMS = ("attn_norm", "mlp_norm", "post_attn_norm", "post_mlp_norm", "q_norm", "k_norm")


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


class NativeRunner:
    """The packed weights, the KV cache and the threads that compute. Build it with :meth:`load`."""

    def __init__(self, core: _native.Core, num_blocks: int) -> None:
        self._core: _native.Core | None = core
        self.num_blocks = num_blocks
        self.kernels = core.kernels
        self.threads = core.threads
        self.weight_bytes = core.weight_bytes
        self.cache_bytes = core.cache_bytes

    @property
    def block_size(self) -> int:
        return _native.BLOCK_SIZE

    @classmethod
    def load(cls, arch: Architecture, weights: WeightSet, options: RunnerOptions | None = None) -> NativeRunner:
        """Pack the weights and make room for the KV cache. The weights' views are not needed afterwards.

        Raises:
            ConfigError: kernels that this machine does not have, or KV memory too small for one block.
        """
        options = options or RunnerOptions()
        spec = core_spec(arch, options.precision)
        num_blocks = _num_blocks(arch, spec, options)
        core = _native.Core(spec, choose_kernels(options.kernels), options.threads or _cores())
        _Loader(core, arch, weights).load()
        core.finish(num_blocks, options.max_batch_tokens)
        return cls(core, num_blocks)

    def step(self, batch: Batch) -> SampledTokens:
        """Run a batch; one entry for each item, ``None`` where no sample was due. The GIL is free meanwhile."""
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        states, tokens, starts = [], [], []
        for item in batch:
            sequence = item.sequence
            state = sequence.sampler_state
            if not isinstance(state, _native.SequenceState):
                state = sequence.sampler_state = sampler_state(sequence)
            if sequence.block_table != state.blocks:
                state.blocks = sequence.block_table
            if sequence.constraint is not None and item.sample:
                state.allow(sequence.constraint.mask())
            states.append(state)
            tokens.append(sequence.token_ids[item.start : item.start + item.count])
            starts.append(item.start)
        sampled = self._core.step(states, tokens, starts, [item.sample for item in batch])
        result: SampledTokens = []
        for item, state, one in zip(batch, states, sampled, strict=True):
            if not item.sample:
                result.append(None)
            elif not one.finite:
                result.append(SampledToken(0, finite=False))
            else:
                state.accept(one.token)
                result.append(_sampled(item.sequence, one))
        return result

    def logits(
        self, token_ids: Row[int], *, chunks: Row[int] | None = None, blocks: Row[int] | None = None
    ) -> NDArray[np.float32]:
        """Logits ``[len(token_ids), vocab_size]`` of one sequence run alone, in ``chunks`` of so many tokens each.

        For measuring quality and for tests; not to be mixed with ``step``, whose blocks it overwrites.
        """
        if self._core is None:
            raise RuntimeError("The runner is closed.")
        needed = -(-len(token_ids) // self.block_size)
        state = _native.SequenceState.make(prompt=[])
        state.blocks = list(blocks or range(needed))
        rows, start = [], 0
        for count in chunks or [len(token_ids)]:
            rows.append(self._core.forward([state], [list(token_ids[start : start + count])], [start]))
            start += count
        return np.concatenate(rows)

    def close(self) -> None:
        """Free the weights, the KV cache and the threads."""
        self._core = None


def _sampled(sequence: Sequence, one: _native.Sampled) -> SampledToken:
    logprob = None if sequence.params.logprobs is None else token_logprob(one)
    constraint = sequence.constraint
    if constraint is None:
        return SampledToken(one.token, logprob)
    if not constraint.accept(one.token) or constraint.is_broken:
        return SampledToken(one.token, error=TOO_COMPLEX)
    # An end of sequence ends it by itself, and is no part of the answer.
    ends = constraint.is_complete and one.token not in sequence.ending_ids
    return SampledToken(one.token, logprob, ends=ends)


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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_memory() -> int:
    """Bytes that can be used without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a kernel interface, not a file
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _num_blocks(arch: Architecture, spec: dict[str, Any], options: RunnerOptions) -> int:
    """As many blocks as the memory allows, but no more than all sequences can use at full length."""
    memory = options.kv_cache_memory or _free_memory() // 4
    most = options.max_running * -(-arch.context_length // _native.BLOCK_SIZE)
    blocks = min(most, memory // _native.block_bytes(spec))
    if blocks < 1:
        raise ConfigError(
            f"kv_cache_memory: must be at least {_native.block_bytes(spec)} bytes for this model",
            param="kv_cache_memory",
        )
    return blocks


def core_spec(arch: Architecture, precision: Precision) -> dict[str, Any]:
    """The core's description of an architecture."""
    rotated = arch.position == "rope"
    windows = getattr(arch, "layer_windows", (arch.sliding_window,) * arch.layers)
    return {
        "vocab_size": arch.vocab_size,
        "hidden_size": arch.hidden_size,
        "layers": arch.layers,
        "attention_heads": arch.attention_heads,
        "kv_heads": arch.kv_heads,
        "head_dim": arch.head_dim,
        "intermediate_size": arch.intermediate_size,
        "layer_norm": arch.norm == "layer",
        "norm_eps": arch.norm_eps,
        "mlp": arch.mlp,
        "parallel": getattr(arch, "parallel", False),
        "shared_norm": getattr(arch, "shared_norm", False),
        "post_norms": getattr(arch, "post_norms", False),
        "qk_norm": getattr(arch, "qk_norm", False),
        "attention_scale": arch.attention_scale,
        "attention_softcap": getattr(arch, "attention_softcap", 0.0),
        "logit_softcap": getattr(arch, "logit_softcap", 0.0),
        "embedding_scale": getattr(arch, "embedding_scale", 1.0),
        "windows": [window or 0 for window in windows],
        "ropes": _ropes(arch) if rotated else [],
        "layer_ropes": list(getattr(arch, "layer_ropes", (0,) * arch.layers)) if rotated else [],
        "precision": precision,
    }


def _ropes(arch: Architecture) -> list[dict[str, Any]]:
    ropes = getattr(arch, "ropes", None)
    pairs = [(rope.theta, rope.scaling) for rope in ropes] if ropes else [(arch.rope_theta, arch.rope_scaling)]
    dim = getattr(arch, "rotary_dim", arch.head_dim)
    neutral = RopeScaling("linear", 1.0)
    return [
        {
            "dim": dim,
            "theta": theta,
            "scaling": scaling.kind if scaling else "none",
            "factor": (scaling or neutral).factor,
            "original_context": float((scaling or neutral).original_context_length),
            "low_freq_factor": (scaling or neutral).low_freq_factor,
            "high_freq_factor": (scaling or neutral).high_freq_factor,
            "beta_fast": getattr(scaling, "beta_fast", 32.0),
            "beta_slow": getattr(scaling, "beta_slow", 1.0),
            "truncate": getattr(scaling, "truncate", True),
            "attention_factor": getattr(scaling, "attention_factor", 1.0),
        }
        for theta, scaling in pairs
    ]


class _Loader:
    """Hands a checkpoint's weights to the core, a matrix at a time."""

    def __init__(self, core: _native.Core, arch: Architecture, weights: WeightSet) -> None:
        self._core = core
        self._arch = arch
        self._weights = weights

    def load(self) -> None:
        arch = self._arch
        queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
        hidden, inner = arch.hidden_size, arch.intermediate_size
        gated = arch.mlp.startswith("gated")
        self._table("embed")
        if arch.position == "learned":
            self._table("pos_embed")
        self._norm(-1, "final_norm", "final_norm")
        self._linear(-1, "head", ["embed" if arch.tied_embeddings else "lm_head"], hidden, arch.vocab_size)
        for layer in range(arch.layers):
            prefix = f"layers.{layer}."
            for norm in _LAYER_NORMS:
                if f"{prefix}{norm}.weight" in self._weights:
                    self._norm(layer, norm, prefix + norm)
            self._linear(layer, "qkv", [prefix + "q", prefix + "k", prefix + "v"], hidden, queries + 2 * keys)
            self._linear(layer, "output", [prefix + "o"], queries, hidden)
            names = [prefix + "gate", prefix + "up"] if gated else [prefix + "fc_in"]
            self._linear(layer, "mlp_in", names, hidden, len(names) * inner)
            self._linear(layer, "mlp_out", [prefix + ("down" if gated else "fc_out")], inner, hidden)

    def _table(self, name: str) -> None:
        (source,) = _parts(self._weights[name])
        self._core.set_table(name, _bytes(source), source.view.dtype, *source.view.shape)

    def _norm(self, layer: int, slot: str, name: str) -> None:
        offset = np.float32(getattr(self._arch, "norm_offset", 0.0))
        weight = _vector(self._weights[f"{name}.weight"])
        self._core.set_norm(layer, slot, weight + offset if offset else weight, self._bias(name))

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        source = self._weights.get(f"{name}.bias")
        return None if source is None else _vector(source)

    def _linear(self, layer: int, slot: str, names: list[str], inputs: int, outputs: int) -> None:
        sources = []
        for name in names:
            parts = _parts(self._weights.get(f"{name}.weight") or self._weights[name])
            bias = self._bias(name)
            start = 0
            for part in parts:
                stored_out = part.view.shape[1 if part.transposed else 0]
                own_bias = None if bias is None else np.ascontiguousarray(bias[start : start + part.rows])
                dtype = part.view.dtype
                sources.append((_bytes(part), dtype, part.transposed, stored_out, part.row_start, part.rows, own_bias))
                start += part.rows
        try:
            self._core.set_linear(layer, slot, sources, inputs, outputs)
        except ArithmeticError as error:
            raise CheckpointCorrupt(f"In {', '.join(names)}, {error}") from None


def _parts(source: LinearSource | tuple[LinearSource, ...]) -> tuple[LinearSource, ...]:
    return source if isinstance(source, tuple) else (source,)


def _bytes(source: LinearSource) -> NDArray[np.uint8]:
    return np.frombuffer(source.view.data, dtype=np.uint8)


def _vector(source: LinearSource | tuple[LinearSource, ...]) -> NDArray[np.float32]:
    """Rank 1 sources, one after the other, as floats."""
    return np.concatenate([_floats(part) for part in _parts(source)])


def _floats(source: LinearSource) -> NDArray[np.float32]:
    raw = source.view.data
    if source.view.dtype == "BF16":
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype="<f4" if source.view.dtype == "F32" else "<f2").astype(np.float32)
    return values[source.row_start : source.row_start + source.rows]
