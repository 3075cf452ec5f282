"""Falcon: the parallel block of 7B with one key head, the new decoder of 40B and 11B, and the older sequential block.

Query, key and value rows lie fused and, but in the first, interleaved by key head. No ALiBi.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from minivault.models.config_values import Config, corrupt, flag, gelu, integer, number, refuse, unsupported
from minivault.models.description import (
    MAX_ATTENTION_HEADS,
    MAX_CONTEXT_LENGTH,
    MAX_HEAD_DIM,
    MAX_HIDDEN_SIZE,
    MAX_INTERMEDIATE_SIZE,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
    Architecture,
)
from minivault.models.families.family import Family
from minivault.models.rope_config import read_rope, rope_options, rotary_dim, stretched_context
from minivault.models.tensor_finder import Named, TensorFinder


@dataclass(frozen=True, slots=True)
class _Block:
    kv_heads: int
    parallel: bool
    shared_norm: bool


def _read_falcon(config: Config) -> Architecture:
    refuse(config, "alibi", "apply_residual_connection_post_layernorm")
    hidden = integer(config, "hidden_size", MAX_HIDDEN_SIZE)
    heads = integer(config, "num_attention_heads", MAX_ATTENTION_HEADS)
    layers = integer(config, "num_hidden_layers", MAX_LAYERS)
    context = integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    head_dim = _head_dim(config, hidden, heads)
    options = rope_options(config)
    rotated = rotary_dim(config, options, head_dim)
    rope = read_rope(config, options, context, rotated)
    block = _block(config, heads)
    bias = flag(config, "bias", default=False)
    return Architecture(
        family="falcon",
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE),
        hidden_size=hidden,
        layers=layers,
        attention_heads=heads,
        kv_heads=block.kv_heads,
        head_dim=head_dim,
        intermediate_size=integer(config, "ffn_hidden_size", MAX_INTERMEDIATE_SIZE, default=4 * hidden),
        context_length=stretched_context(context, rope.scaling),
        norm="layer",
        norm_eps=number(config, "layer_norm_epsilon", 1e-12, 1e-1, default=1e-5),
        position="rope",
        mlp=gelu(config, "activation", default="gelu"),
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=bias,
        tied_embeddings=flag(config, "tie_word_embeddings", default=True),
        attention_scale=1.0 / math.sqrt(head_dim),
        layer_windows=(None,) * layers,
        rotary_dim=rotated,
        ropes=(rope,),
        layer_ropes=(0,) * layers,
        parallel=block.parallel,
        shared_norm=block.shared_norm,
    )


def _head_dim(config: Config, hidden: int, heads: int) -> int:
    if hidden % heads or config.get("head_dim") not in (None, hidden // heads):
        raise corrupt("hidden_size must be num_attention_heads times the size of a head")
    head_dim = hidden // heads
    if not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise corrupt(f"hidden_size / num_attention_heads must be even, from 2 to {MAX_HEAD_DIM}")
    return head_dim


def _block(config: Config, heads: int) -> _Block:
    parallel = flag(config, "parallel_attn", default=True)
    norms = config.get("num_ln_in_parallel_attn")
    if flag(config, "new_decoder_architecture", default=False):
        if not parallel:
            raise unsupported("new_decoder_architecture without parallel_attn", wanted="parallel_attn true")
        if norms not in (None, 1, 2):
            raise corrupt("num_ln_in_parallel_attn must be 1 or 2")
        kv_heads = integer(config, "num_kv_heads", MAX_ATTENTION_HEADS, default=heads)
        if heads % kv_heads:
            raise corrupt("num_attention_heads must be a multiple of num_kv_heads")
        return _Block(kv_heads, parallel=True, shared_norm=norms == 1)
    if norms not in (None, 1):
        raise unsupported("num_ln_in_parallel_attn without new_decoder_architecture", wanted="one norm")
    if flag(config, "multi_query", default=True):
        return _Block(1, parallel, shared_norm=parallel)
    if config.get("num_kv_heads") not in (None, heads):
        raise corrupt("num_kv_heads must be num_attention_heads without multi_query and new_decoder_architecture")
    return _Block(heads, parallel, shared_norm=parallel)


def _tensors(arch: Architecture, finder: TensorFinder) -> Named:
    hidden = arch.hidden_size
    yield "embed", finder.whole("word_embeddings.weight", arch.vocab_size, hidden)
    for layer in range(arch.layers):
        ours, theirs = f"layers.{layer}.", f"h.{layer}."
        yield from _norms(arch, finder, ours, theirs)
        yield from _qkv(arch, finder, ours, f"{theirs}self_attention.query_key_value")
        for name, stored, rows, columns, bias in (
            ("o", "self_attention.dense", hidden, hidden, arch.output_bias),
            ("fc_in", "mlp.dense_h_to_4h", arch.intermediate_size, hidden, arch.mlp_bias),
            ("fc_out", "mlp.dense_4h_to_h", hidden, arch.intermediate_size, arch.mlp_bias),
        ):
            yield f"{ours}{name}.weight", finder.whole(f"{theirs}{stored}.weight", rows, columns)
            if bias:
                yield f"{ours}{name}.bias", finder.whole(f"{theirs}{stored}.bias", rows)
    for kind in ("weight", "bias"):
        yield f"final_norm.{kind}", finder.whole(f"ln_f.{kind}", hidden)


def _norms(arch: Architecture, finder: TensorFinder, ours: str, theirs: str) -> Named:
    if arch.shared_norm:
        norms = [("attn_norm", "input_layernorm")]
    elif arch.parallel:
        norms = [("attn_norm", "ln_attn"), ("mlp_norm", "ln_mlp")]
    else:
        norms = [("attn_norm", "input_layernorm"), ("mlp_norm", "post_attention_layernorm")]
    for canonical, stored in norms:
        for kind in ("weight", "bias"):
            yield f"{ours}{canonical}.{kind}", finder.whole(f"{theirs}{stored}.{kind}", arch.hidden_size)


def _qkv(arch: Architecture, finder: TensorFinder, ours: str, fused: str) -> Named:
    """For each key head: the rows of its queries, then of the key, then of the value."""
    group, size = arch.attention_heads // arch.kv_heads, arch.head_dim
    total = (group + 2) * size * arch.kv_heads
    firsts = [kv_head * (group + 2) * size for kv_head in range(arch.kv_heads)]
    for name, rows, offset in (("q", group * size, 0), ("k", size, group * size), ("v", size, (group + 1) * size)):
        starts = [first + offset for first in firsts]
        yield f"{ours}{name}.weight", finder.parts(f"{fused}.weight", rows, starts, total, arch.hidden_size)
        if arch.attention_bias:
            yield f"{ours}{name}.bias", finder.parts(f"{fused}.bias", rows, starts, total)


FALCON = Family(
    {"falcon": _read_falcon},
    _tensors,
    {"transformer.": "lm_head.weight"},
    (".rotary_emb.inv_freq", ".self_attention.maybe_rotary.inv_freq"),
)
