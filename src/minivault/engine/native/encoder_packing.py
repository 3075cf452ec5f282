"""Gives the core the weights of an encoder, tensor by tensor. Knows nothing of texts or of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minivault.engine.native import _native
from minivault.engine.native.packing import Precision, finite, source_bytes, source_floats
from minivault.errors import CheckpointCorrupt
from minivault.models.encoder import EncoderArchitecture, EncoderWeights
from minivault.models.pooling import PoolingConfig

OUTLIERS = 32
"""Inputs of each matrix that are multiplied in floats: one group of the kernels."""


def max_tokens_of(arch: EncoderArchitecture, pooling: PoolingConfig) -> int:
    """Tokens of the longest text, special ones included."""
    return min(arch.context_length, pooling.max_tokens or arch.context_length)


def encoder_spec(arch: EncoderArchitecture, pooling: PoolingConfig, precision: Precision) -> dict[str, Any]:
    """The core's description of an encoder."""
    return {
        "vocab_size": arch.vocab_size,
        "hidden_size": arch.hidden_size,
        "layers": arch.layers,
        "attention_heads": arch.attention_heads,
        "intermediate_size": arch.intermediate_size,
        "max_tokens": max_tokens_of(arch, pooling),
        "position_offset": arch.position_offset,
        "norm_eps": arch.norm_eps,
        "tanh_gelu": arch.mlp == "gelu_tanh",
        "pooling": pooling.kind,
        "normalized": pooling.normalized,
        "precision": precision,
    }


class EncoderPacker:
    """Gives the core every weight of an encoder.

    In the integer lanes each matrix keeps its few weightiest inputs in floats, and the others are brought nearer to one
    size by powers of two, taken back by the norm before them: small encoders feel every rounding.

    Raises:
        CheckpointCorrupt: a weight is infinite or not a number.
    """

    def __init__(
        self, core: _native.EncoderCore, arch: EncoderArchitecture, weights: EncoderWeights, precision: Precision
    ) -> None:
        self._core = core
        self._arch = arch
        self._weights = weights
        self._quantized = precision != "f32"

    def pack(self) -> None:
        core, arch, weights = self._core, self._arch, self._weights
        hidden, inner = arch.hidden_size, arch.intermediate_size
        try:
            for name in ("embed", "pos_embed"):
                source = weights[name]
                core.set_table(name, source_bytes(source), source.view.dtype, *source.view.shape)
            if arch.token_types:
                core.set_token_type(finite("token_type", source_floats(weights["token_type"]))[0])
            before = (-1, "embed_norm")
            for layer in range(arch.layers):
                self._linear(layer, "qkv", ("q", "k", "v"), hidden, 3 * hidden, before)
                self._linear(layer, "output", ("o",), hidden, hidden, None)
                self._linear(layer, "mlp_in", ("fc_in",), hidden, inner, (layer, "attn_norm"))
                self._linear(layer, "mlp_out", ("fc_out",), inner, hidden, None)
                before = (layer, "mlp_norm")
            self._core.set_norm(*before, False, *self._norm(*before))
        except ArithmeticError as error:
            raise CheckpointCorrupt(f"In the encoder, {error}") from None

    def _norm(self, layer: int, slot: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        name = slot if layer < 0 else f"layers.{layer}.{slot}"
        return self._vector(f"{name}.weight"), self._vector(f"{name}.bias")

    def _vector(self, name: str) -> NDArray[np.float32]:
        return finite(name, source_floats(self._weights[name]))

    def _linear(
        self, layer: int, slot: str, names: tuple[str, ...], inputs: int, outputs: int, norm: tuple[int, str] | None
    ) -> None:
        """Set a matrix, and the norm that it reads."""
        sources = [self._weights[f"layers.{layer}.{name}.weight"] for name in names]
        parts = []
        for name, source in zip(names, sources, strict=True):
            bias = np.ascontiguousarray(self._vector(f"layers.{layer}.{name}.bias"))
            parts.append((source_bytes(source), source.view.dtype, False, source.rows, 0, source.rows, bias))
        if norm is not None:
            weight, bias = self._norm(*norm)
            self._core.set_norm(*norm, False, weight, bias)
        if not self._quantized:
            self._core.set_linear(layer, slot, parts, inputs, outputs, None, [], None)
            return
        size = self._core.column_maxima(parts, inputs)
        powers = np.zeros(inputs, dtype=np.int32)
        expected = np.ones(inputs, dtype=np.float32)
        if norm is not None:
            expected = np.sqrt(weight * weight + bias * bias)
            powers = balance_inputs(expected, size)
        outliers = np.sort(np.argsort(-(expected * size), kind="stable")[:OUTLIERS])
        scales = np.ldexp(np.float32(1.0), powers).astype(np.float32)
        scales[outliers] = 0.0
        if norm is not None:
            inverse = np.ldexp(np.float32(1.0), -powers).astype(np.float32)
            inverse[outliers] = 0.0
            self._core.set_norm(*norm, True, weight * inverse, bias * inverse)
        columns = np.zeros((outputs, 32), dtype=np.float32)
        columns[:, : len(outliers)] = np.concatenate([source_floats(source)[:, outliers] for source in sources])
        self._core.set_linear(layer, slot, parts, inputs, outputs, scales, outliers.tolist(), columns.reshape(-1))


def balance_inputs(expected: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.int32]:
    """Powers of two by which a matrix's columns are multiplied, and its inputs divided.

    ``expected``: how large an input is, by the norm before it; ``size``: the largest weight of its column. Inputs are
    divided by about ``expected ** 0.25 / size ** 0.75`` against the middle one. In whole exponents, so that no
    library's logarithm decides a bit. Takes and gives ``[inputs]``.
    """
    used = (expected > 0) & (size > 0)
    if not used.any():
        return np.zeros(len(size), dtype=np.int32)
    quarters = np.frexp(expected)[1] - 3 * np.frexp(size)[1]
    middle = int(np.sort(quarters[used])[np.count_nonzero(used) // 2])
    powers: NDArray[np.int32] = np.clip((quarters - middle + 2) // 4, -24, 24).astype(np.int32)
    powers[~used] = 0
    return powers
