"""How much memory a model takes in the core, from its description alone, before anything is read or packed.

Sees no array. Knows nothing of budgets.
"""

from __future__ import annotations

from typing import Literal

from minivault.models.description import Architecture

Precision = Literal["int8", "int4", "f32"]

BLOCK = 16
"""Tokens of a block of KV cache."""
_GROUP = 32
_COLUMNS = 32
_LANES = 16


def weight_bytes(arch: Architecture, precision: Precision, table_item: int = 2) -> int:
    """Bytes of the packed weights. ``table_item``: bytes of a number in the checkpoint's embeddings."""
    queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
    hidden, inner = arch.hidden_size, arch.intermediate_size
    layer = (
        _matrix(hidden, queries + 2 * keys, precision)
        + _matrix(queries, hidden, precision)
        + _matrix(hidden, (2 if arch.gated else 1) * inner, precision)
        + _matrix(inner, hidden, precision)
    )
    rows = arch.vocab_size + (arch.context_length if arch.position == "learned" else 0)
    head = _matrix(hidden, arch.vocab_size, "int8" if precision == "int4" else precision)
    return rows * hidden * table_item + head + arch.layers * layer


def _matrix(inputs: int, outputs: int, precision: Precision) -> int:
    padded_in, padded_out = _round_up(inputs, _GROUP), _round_up(outputs, _COLUMNS)
    weights = padded_in * padded_out
    bias = 4 * padded_out
    if precision == "f32":
        return 4 * weights + bias
    if precision == "int8":
        return weights + 4 * padded_out + bias
    return weights // 2 + 2 * padded_out * (padded_in // _GROUP) + bias


def block_bytes(arch: Architecture, precision: Precision) -> int:
    """Bytes of one block of KV cache, :data:`BLOCK` tokens."""
    width = arch.head_dim + _round_up(arch.head_dim, _LANES)
    return (4 if precision == "f32" else 2) * arch.layers * arch.kv_heads * BLOCK * width


def full_cache_bytes(arch: Architecture, precision: Precision, sequences: int) -> int:
    """Bytes of KV cache that so many sequences of full length can use: more is of no use."""
    return sequences * -(-arch.context_length // BLOCK) * block_bytes(arch, precision)


def working_bytes(arch: Architecture, rows: int, sequences: int) -> int:
    """Bytes that steps of so many rows need beside weights and cache, the tokenizer's tables among them."""
    heads = (arch.attention_heads + 2 * arch.kv_heads) * arch.head_dim
    width = 5 * arch.hidden_size + 2 * heads + 4 * arch.intermediate_size
    return 4 * rows * width + 4 * sequences * arch.vocab_size + 512 * arch.vocab_size + (16 << 20)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
