"""A plain NumPy forward pass from a description and a weight set: the two say everything there is to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minivault.models.architecture import Architecture, Rope, RopeScaling
from minivault.models.weights import LinearSource, Source, WeightSet

Array = NDArray[np.float64]


def array(source: Source) -> Array:
    """The logical tensor, [rows, in] or [rows]."""
    if isinstance(source, tuple):
        return np.concatenate([_array(one) for one in source])
    return _array(source)


def _array(source: LinearSource) -> Array:
    view = source.view
    if view.dtype == "BF16":
        bits = np.frombuffer(view.data, "<u2").astype(np.uint32) << 16
        stored = bits.view(np.float32)
    else:
        stored = np.frombuffer(view.data, {"F32": "<f4", "F16": "<f2"}[view.dtype])
    whole = stored.astype(np.float64).reshape(view.shape)
    logical = whole.T if source.transposed else whole
    return logical[source.row_start : source.row_start + source.rows]


@dataclass
class Reference:
    arch: Architecture
    weights: WeightSet

    def logits(self, token_ids: Sequence[int]) -> Array:
        """[T, V]"""
        hidden = array(self.weights["embed"])[np.asarray(token_ids)] * self.arch.embedding_scale
        if self.arch.position == "learned":
            hidden = hidden + array(self.weights["pos_embed"])[: len(token_ids)]
        for layer in range(self.arch.layers):
            hidden = self._layer(layer, hidden)
        head = self.weights["embed" if self.arch.tied_embeddings else "lm_head"]
        return capped(self._norm("final_norm", hidden) @ array(head).T, self.arch.logit_softcap)

    def _layer(self, layer: int, x: Array) -> Array:
        name = f"layers.{layer}."
        normed = self._norm(f"{name}attn_norm", x)
        mixed = self._attention(layer, normed)
        if self.arch.parallel:
            return x + mixed + self._mlp(name, normed if self.arch.shared_norm else self._norm(f"{name}mlp_norm", x))
        x = x + self._post_norm(f"{name}post_attn_norm", mixed)
        return x + self._post_norm(f"{name}post_mlp_norm", self._mlp(name, self._norm(f"{name}mlp_norm", x)))

    def _linear(self, name: str, x: Array) -> Array:
        y = x @ array(self.weights[f"{name}.weight"]).T
        bias = f"{name}.bias"
        return y + array(self.weights[bias]) if bias in self.weights else y

    def _norm(self, name: str, x: Array) -> Array:
        weight = array(self.weights[f"{name}.weight"]) + self.arch.norm_offset
        if self.arch.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        y: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.arch.norm_eps) * weight
        return y + array(self.weights[f"{name}.bias"]) if self.arch.norm == "layer" else y

    def _post_norm(self, name: str, x: Array) -> Array:
        return self._norm(name, x) if self.arch.post_norms else x

    def _mlp(self, name: str, x: Array) -> Array:
        if self.arch.mlp in ("gated_silu", "gated_gelu_tanh"):
            gate = self._linear(f"{name}gate", x)
            gate = gate / (1 + np.exp(-gate)) if self.arch.mlp == "gated_silu" else gelu_tanh(gate)
            return self._linear(f"{name}down", gate * self._linear(f"{name}up", x))
        y = self._linear(f"{name}fc_in", x)
        return self._linear(f"{name}fc_out", gelu_tanh(y) if self.arch.mlp == "gelu_tanh" else gelu(y))

    def _attention(self, layer: int, x: Array) -> Array:
        arch, length, name = self.arch, len(x), f"layers.{layer}."
        q, k, v = (
            self._linear(name + part, x).reshape(length, heads, arch.head_dim).swapaxes(0, 1)
            for part, heads in (("q", arch.attention_heads), ("k", arch.kv_heads), ("v", arch.kv_heads))
        )
        if arch.qk_norm:
            q, k = self._norm(f"{name}q_norm", q), self._norm(f"{name}k_norm", k)
        if arch.position == "rope":
            rope = arch.ropes[arch.layer_ropes[layer]]
            q, k = rotated(q, rope, arch.rotary_dim), rotated(k, rope, arch.rotary_dim)
        group = arch.attention_heads // arch.kv_heads
        k, v = k.repeat(group, axis=0), v.repeat(group, axis=0)
        scores = capped(q @ k.swapaxes(1, 2) * arch.attention_scale, arch.attention_softcap)
        distance = np.arange(length)[:, None] - np.arange(length)[None, :]
        scores[:, (distance < 0) | (distance >= (arch.layer_windows[layer] or length))] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed: Array = shares / shares.sum(-1, keepdims=True) @ v
        return self._linear(f"{name}o", mixed.swapaxes(0, 1).reshape(length, -1))


def capped(x: Array, cap: float) -> Array:
    return cap * np.tanh(x / cap) if cap else x


def gelu_tanh(x: Array) -> Array:
    y: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return y


def gelu(x: Array) -> Array:
    erf = np.array([math.erf(value) for value in (x / math.sqrt(2)).ravel()]).reshape(x.shape)
    y: Array = 0.5 * x * (1 + erf)
    return y


def rotated(x: Array, rope: Rope, dim: int) -> Array:
    """``x`` [heads, T, head_dim], turned in its first ``dim`` dimensions."""
    half, positions = dim // 2, range(x.shape[1])
    angles = np.stack([position * frequencies(rope, dim, position) for position in positions])
    factor = rope.scaling.attention_factor if rope.scaling else 1.0
    cos, sin = np.cos(angles) * factor, np.sin(angles) * factor
    first, second, rest = x[..., :half], x[..., half:dim], x[..., dim:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def frequencies(rope: Rope, dim: int, position: int) -> Array:
    """[dim / 2]"""
    scaling, theta, places = rope.scaling, rope.theta, np.arange(0, dim, 2) / dim
    plain: Array = theta**-places
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        ratio = scaling.original_context_length * plain / (2 * np.pi)  # original length over wavelength
        smooth = (ratio - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        return plain * (smooth.clip(0, 1) + (1 - smooth.clip(0, 1)) / scaling.factor)
    if scaling.kind == "dynamic":
        original = scaling.original_context_length
        grown = scaling.factor * max(position + 1, original) / original - (scaling.factor - 1)
        base: Array = (theta * grown ** (dim / (dim - 2))) ** -places
        return base
    divided = yarn_shares(scaling, theta, dim)
    return plain * (1 - divided) + plain / scaling.factor * divided


def yarn_shares(scaling: RopeScaling, theta: float, dim: int) -> Array:
    """In which share each frequency is divided by the factor."""

    def bound(turns: float) -> float:
        return dim * math.log(scaling.original_context_length / (2 * math.pi * turns)) / (2 * math.log(theta))

    low, high = bound(scaling.beta_fast), bound(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high += 0.001 * (low == high)
    return ((np.arange(dim // 2) - low) / (high - low)).clip(0, 1)
