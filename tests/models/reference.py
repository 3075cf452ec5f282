"""A plain NumPy forward pass from a description and a weight set: the two say everything there is to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minivault.models.architecture import Architecture
from minivault.models.weights import LinearSource, WeightSet

Array = NDArray[np.float64]


def array(source: LinearSource) -> Array:
    """The logical tensor, [rows, in] or [rows]."""
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
        hidden = array(self.weights["embed"])[np.asarray(token_ids)]
        if self.arch.position == "learned":
            hidden = hidden + array(self.weights["pos_embed"])[: len(token_ids)]
        for layer in range(self.arch.layers):
            name = f"layers.{layer}."
            hidden = hidden + self._attention(name, self._norm(f"{name}attn_norm", hidden))
            hidden = hidden + self._mlp(name, self._norm(f"{name}mlp_norm", hidden))
        head = self.weights["embed" if self.arch.tied_embeddings else "lm_head"]
        return self._norm("final_norm", hidden) @ array(head).T

    def _linear(self, name: str, x: Array) -> Array:
        y = x @ array(self.weights[f"{name}.weight"]).T
        bias = f"{name}.bias"
        return y + array(self.weights[bias]) if bias in self.weights else y

    def _norm(self, name: str, x: Array) -> Array:
        if self.arch.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        y: Array = (
            x / np.sqrt((x * x).mean(-1, keepdims=True) + self.arch.norm_eps) * array(self.weights[f"{name}.weight"])
        )
        return y + array(self.weights[f"{name}.bias"]) if self.arch.norm == "layer" else y

    def _mlp(self, name: str, x: Array) -> Array:
        if self.arch.mlp == "gated_silu":
            gate = self._linear(f"{name}gate", x)
            return self._linear(f"{name}down", gate / (1 + np.exp(-gate)) * self._linear(f"{name}up", x))
        y = self._linear(f"{name}fc_in", x)
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        return self._linear(f"{name}fc_out", y)

    def _attention(self, name: str, x: Array) -> Array:
        arch, length = self.arch, len(x)
        q, k, v = (
            self._linear(name + part, x).reshape(length, heads, arch.head_dim).swapaxes(0, 1)
            for part, heads in (("q", arch.attention_heads), ("k", arch.kv_heads), ("v", arch.kv_heads))
        )
        if arch.position == "rope":
            q, k = self._rotate(q), self._rotate(k)
        group = arch.attention_heads // arch.kv_heads
        k, v = k.repeat(group, axis=0), v.repeat(group, axis=0)
        scores = q @ k.swapaxes(1, 2) * arch.attention_scale
        distance = np.arange(length)[:, None] - np.arange(length)[None, :]
        scores[:, (distance < 0) | (distance >= (arch.sliding_window or length))] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed: Array = shares / shares.sum(-1, keepdims=True) @ v
        return self._linear(f"{name}o", mixed.swapaxes(0, 1).reshape(length, -1))

    def _rotate(self, x: Array) -> Array:
        half = self.arch.head_dim // 2
        angles = np.arange(x.shape[1])[:, None] * self._frequencies()[None, :]
        cos, sin, first, second = np.cos(angles), np.sin(angles), x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def _frequencies(self) -> Array:
        dim, scaling = self.arch.head_dim, self.arch.rope_scaling
        plain: Array = self.arch.rope_theta ** (-np.arange(0, dim, 2) / dim)
        if scaling is None:
            return plain
        if scaling.kind == "linear":
            return plain / scaling.factor
        ratio = scaling.original_context_length * plain / (2 * np.pi)  # original length over wavelength
        smooth = (ratio - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        return plain * (smooth.clip(0, 1) + (1 - smooth.clip(0, 1)) / scaling.factor)
