"""Hands a checkpoint to the C++ core: its description as plain values, its weights a matrix at a time.

Every tensor goes over as the bytes that the checkpoint maps; the core packs them for its lane. Knows nothing of
batches.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from minivault.errors import CheckpointCorrupt
from minivault.models.description import Architecture, Rope, RopeScaling
from minivault.models.weights import LinearSource, WeightSet, sources

if TYPE_CHECKING:
    from minivault.engine.native import _native

    _Source = tuple[NDArray[np.uint8], str, bool, int, int, int, NDArray[np.float32] | None]

Precision = Literal["int8", "int4", "f32"]

PACKING_VERSION = 2
"""Of the layout of packed weights. A change that an old file would not fit must raise it."""

_OTHER_NORMS = ("post_attn_norm", "post_mlp_norm", "q_norm", "k_norm")
"""Norms of a layer that no quantised matrix reads directly."""

_LEFT_ALONE = 3
"""Powers of two."""


def core_spec(arch: Architecture, precision: Precision) -> dict[str, Any]:
    """The core's description of an architecture."""
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
        "parallel": arch.parallel,
        "shared_norm": arch.shared_norm,
        "post_norms": arch.post_norms,
        "qk_norm": arch.qk_norm,
        "attention_scale": arch.attention_scale,
        "attention_softcap": arch.attention_softcap,
        "logit_softcap": arch.logit_softcap,
        "embedding_scale": arch.embedding_scale,
        "windows": [window or 0 for window in arch.layer_windows],
        "ropes": [_rope(rope, arch.rotary_dim) for rope in arch.ropes],
        "layer_ropes": list(arch.layer_ropes),
        "precision": precision,
    }


def _rope(rope: Rope, dim: int) -> dict[str, Any]:
    scaling = rope.scaling or RopeScaling("linear", 1.0)
    return {
        "dim": dim,
        "theta": rope.theta,
        "scaling": scaling.kind if rope.scaling else "none",
        "factor": scaling.factor,
        "original_context": float(scaling.original_context_length),
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "beta_fast": scaling.beta_fast,
        "beta_slow": scaling.beta_slow,
        "truncate": scaling.truncate,
        "attention_factor": scaling.attention_factor,
    }


def packed_key(weights_digest: str, precision: Precision) -> bytes:
    """What a file of packed weights was made from, and how: 32 bytes."""
    return hashlib.sha256(f"packed-v{PACKING_VERSION} {sys.byteorder} {precision} {weights_digest}".encode()).digest()


class Packer:
    """Gives the core every weight of a checkpoint.

    Raises:
        CheckpointCorrupt: a weight is infinite or not a number.
    """

    def __init__(
        self,
        core: _native.Core,
        arch: Architecture,
        weights: WeightSet,
        precision: Precision,
        report: Callable[[float], None] = lambda share: None,
    ) -> None:
        """``report`` is called with the share of the layers that are packed, 0..1."""
        self._report = report
        self._precision = precision
        self._core = core
        self._arch = arch
        self._weights = weights

    def pack(self) -> None:
        arch = self._arch
        queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
        hidden, inner = arch.hidden_size, arch.intermediate_size
        self._table("embed")
        if arch.position == "learned":
            self._table("pos_embed")
        scales = self._balanced_norm(-1, "final_norm", [self._lm_head])
        self._linear(-1, "lm_head", [self._lm_head], hidden, arch.vocab_size, scales)
        for layer in range(arch.layers):
            prefix = f"layers.{layer}."
            readers = [prefix + name for name in ("q", "k", "v")]
            mlp = [prefix + name for name in (("gate", "up") if arch.gated else ("fc_in",))]
            for norm in _OTHER_NORMS:
                if f"{prefix}{norm}.weight" in self._weights:
                    self._set_norm(layer, norm, *self._norm(prefix + norm))
            scales = self._balanced_norm(layer, "attn_norm", readers + mlp if arch.shared_norm else readers)
            self._linear(layer, "qkv", readers, hidden, queries + 2 * keys, scales)
            self._linear(layer, "output", [prefix + "o"], queries, hidden)
            if not arch.shared_norm:
                scales = self._balanced_norm(layer, "mlp_norm", mlp)
            self._linear(layer, "mlp_in", mlp, hidden, len(mlp) * inner, scales)
            self._linear(layer, "mlp_out", [prefix + ("down" if arch.gated else "fc_out")], inner, hidden)
            self._report((layer + 1) / arch.layers)

    @property
    def _lm_head(self) -> str:
        return "embed" if self._arch.tied_embeddings else "lm_head"

    def _balanced_norm(self, layer: int, slot: str, readers: list[str]) -> NDArray[np.float32] | None:
        """Set a norm, balanced with the matrices that read it; returns what their columns must be multiplied by."""
        name = slot if layer < 0 else f"layers.{layer}.{slot}"
        weight, bias = self._norm(name)
        if self._precision == "f32":
            self._set_norm(layer, slot, weight, bias)
            return None
        parts = [part for reader in readers for part in self._sources(reader)]
        powers = balance(self._core.column_maxima(parts, self._arch.hidden_size))
        if not powers.any():
            self._set_norm(layer, slot, weight, bias)
            return None
        one = np.float32(1.0)
        self._set_norm(layer, slot, np.ldexp(weight, -powers), None if bias is None else np.ldexp(bias, -powers))
        return np.ldexp(one, powers)

    def _table(self, name: str) -> None:
        (source,) = sources(self._weights, name)
        try:
            self._core.set_table(name, source_bytes(source), source.view.dtype, *source.view.shape)
        except ArithmeticError as error:
            raise CheckpointCorrupt(f"In {name}, {error}") from None

    def _norm(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        offset = np.float32(self._arch.norm_offset)
        weight = self._vector(f"{name}.weight")
        return weight + offset if offset else weight, self._bias(name)

    def _set_norm(self, layer: int, slot: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> None:
        self._core.set_norm(layer, slot, weight, bias)

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._vector(f"{name}.bias") if f"{name}.bias" in self._weights else None

    def _vector(self, name: str) -> NDArray[np.float32]:
        """Rank 1 sources, one after the other, as floats."""
        return finite(name, np.concatenate([source_floats(part) for part in sources(self._weights, name)]))

    def _linear(
        self,
        layer: int,
        slot: str,
        names: list[str],
        inputs: int,
        outputs: int,
        input_scales: NDArray[np.float32] | None = None,
    ) -> None:
        parts = [part for name in names for part in self._sources(name)]
        try:
            self._core.set_linear(layer, slot, parts, inputs, outputs, input_scales)
        except ArithmeticError as error:
            raise CheckpointCorrupt(f"In {', '.join(names)}, {error}") from None

    def _sources(self, name: str) -> list[_Source]:
        """A matrix's parts: (data, dtype, transposed, stored outputs, first row, rows, bias) for each."""
        bias = self._bias(name)
        found: list[_Source] = []
        start = 0
        for part in sources(self._weights, f"{name}.weight" if f"{name}.weight" in self._weights else name):
            stored_out = part.view.shape[1 if part.transposed else 0]
            own_bias = None if bias is None else np.ascontiguousarray(bias[start : start + part.rows])
            dtype = part.view.dtype
            found.append((source_bytes(part), dtype, part.transposed, stored_out, part.row_start, part.rows, own_bias))
            start += part.rows
        return found


def balance(column_maxima: NDArray[np.float32]) -> NDArray[np.int32]:
    """Powers of two by which columns are multiplied, and the norm before them divided, so that columns are of one size.

    A few columns that are far smaller than the rest, behind a norm that makes up for it, cost the others of their group
    their precision. Powers of two leave the function as it was, to the bit. Columns within a factor of eight of the
    middle are left alone. Takes and gives ``[inputs]``.
    """
    exponents = np.frexp(column_maxima)[1]
    used = column_maxima > 0
    if not used.any():
        return np.zeros(len(exponents), dtype=np.int32)
    middle = int(np.sort(exponents[used])[np.count_nonzero(used) // 2])
    powers: NDArray[np.int32] = np.clip(middle - exponents, -24, 24).astype(np.int32)
    powers[~used | (np.abs(powers) <= _LEFT_ALONE)] = 0
    return powers


def set_hidden_norm(core: _native.Core, arch: Architecture, weights: WeightSet) -> None:
    """Give the core the final norm as it is stored: the one that it has for logits is balanced with the head."""
    (weight,) = sources(weights, "final_norm.weight")
    bias = sources(weights, "final_norm.bias")[0] if "final_norm.bias" in weights else None
    scale = finite("final_norm.weight", source_floats(weight)) + np.float32(arch.norm_offset)
    shift = None if bias is None else finite("final_norm.bias", source_floats(bias))
    core.set_norm(-1, "hidden_norm", scale, shift)


def finite(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``values``, checked.

    Raises:
        CheckpointCorrupt: one is infinite or not a number.
    """
    if not np.isfinite(values).all():
        raise CheckpointCorrupt(f"In {name}, a value is infinite or not a number")
    return values


def source_bytes(source: LinearSource) -> NDArray[np.uint8]:
    """The whole stored tensor, as it lies in the file."""
    return np.frombuffer(source.view.data, dtype=np.uint8)


def source_floats(source: LinearSource) -> NDArray[np.float32]:
    """A source of rank 1, or of rank 2 stored row after row, as floats."""
    raw = source.view.data
    if source.view.dtype == "BF16":
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype="<f4" if source.view.dtype == "F32" else "<f2").astype(np.float32)
    return values.reshape(source.view.shape)[source.row_start : source.row_start + source.rows]
