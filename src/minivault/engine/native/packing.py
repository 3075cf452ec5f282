"""Hands a checkpoint to the C++ core: its description as plain values, its weights a matrix at a time.

Every tensor goes over as the bytes that the checkpoint maps; the core packs them for its lane. Knows nothing of
batches.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from minivault.errors import CheckpointCorrupt
from minivault.models.description import Architecture, Rope, RopeScaling
from minivault.models.weights import LinearSource, WeightSet, sources

if TYPE_CHECKING:
    from minivault.engine.native import _native

Precision = Literal["int8", "int4", "f32"]

PACKING_VERSION = 1
"""Of the layout of packed weights. A change that an old file would not fit must raise it."""

_LAYER_NORMS = ("attn_norm", "mlp_norm", "post_attn_norm", "post_mlp_norm", "q_norm", "k_norm")


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

    def __init__(self, core: _native.Core, arch: Architecture, weights: WeightSet) -> None:
        self._core = core
        self._arch = arch
        self._weights = weights

    def pack(self) -> None:
        """Every weight."""
        self.norms()
        self._matrices()

    def norms(self) -> None:
        """What a packed file does not hold."""
        self._norm(-1, "final_norm", "final_norm")
        for layer in range(self._arch.layers):
            for norm in _LAYER_NORMS:
                if f"layers.{layer}.{norm}.weight" in self._weights:
                    self._norm(layer, norm, f"layers.{layer}.{norm}")

    def _matrices(self) -> None:
        arch = self._arch
        queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
        hidden, inner = arch.hidden_size, arch.intermediate_size
        gated = arch.gated
        self._table("embed")
        if arch.position == "learned":
            self._table("pos_embed")
        self._linear(-1, "head", ["embed" if arch.tied_embeddings else "lm_head"], hidden, arch.vocab_size)
        for layer in range(arch.layers):
            prefix = f"layers.{layer}."
            self._linear(layer, "qkv", [prefix + "q", prefix + "k", prefix + "v"], hidden, queries + 2 * keys)
            self._linear(layer, "output", [prefix + "o"], queries, hidden)
            names = [prefix + "gate", prefix + "up"] if gated else [prefix + "fc_in"]
            self._linear(layer, "mlp_in", names, hidden, len(names) * inner)
            self._linear(layer, "mlp_out", [prefix + ("down" if gated else "fc_out")], inner, hidden)

    def _table(self, name: str) -> None:
        (source,) = sources(self._weights, name)
        self._core.set_table(name, _bytes(source), source.view.dtype, *source.view.shape)

    def _norm(self, layer: int, slot: str, name: str) -> None:
        offset = np.float32(self._arch.norm_offset)
        weight = self._vector(f"{name}.weight")
        self._core.set_norm(layer, slot, weight + offset if offset else weight, self._bias(name))

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._vector(f"{name}.bias") if f"{name}.bias" in self._weights else None

    def _vector(self, name: str) -> NDArray[np.float32]:
        """Rank 1 sources, one after the other, as floats."""
        return np.concatenate([_floats(part) for part in sources(self._weights, name)])

    def _linear(self, layer: int, slot: str, names: list[str], inputs: int, outputs: int) -> None:
        parts_of_all = []
        for name in names:
            parts = sources(self._weights, f"{name}.weight" if f"{name}.weight" in self._weights else name)
            bias = self._bias(name)
            start = 0
            for part in parts:
                stored_out = part.view.shape[1 if part.transposed else 0]
                own_bias = None if bias is None else np.ascontiguousarray(bias[start : start + part.rows])
                dtype = part.view.dtype
                parts_of_all.append(
                    (_bytes(part), dtype, part.transposed, stored_out, part.row_start, part.rows, own_bias)
                )
                start += part.rows
        try:
            self._core.set_linear(layer, slot, parts_of_all, inputs, outputs)
        except ArithmeticError as error:
            raise CheckpointCorrupt(f"In {', '.join(names)}, {error}") from None


def _bytes(source: LinearSource) -> NDArray[np.uint8]:
    return np.frombuffer(source.view.data, dtype=np.uint8)


def _floats(source: LinearSource) -> NDArray[np.float32]:
    raw = source.view.data
    if source.view.dtype == "BF16":
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype="<f4" if source.view.dtype == "F32" else "<f2").astype(np.float32)
    return values[source.row_start : source.row_start + source.rows]
