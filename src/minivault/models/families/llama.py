"""Llama (TinyLlama, SmolLM) and Mistral; and the config fields and tensor names that families built alike share."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from minivault.models.config_values import Config, corrupt, flag, integer, number, refuse, require, unsupported
from minivault.models.description import (
    MAX_ATTENTION_HEADS,
    MAX_CONTEXT_LENGTH,
    MAX_HEAD_DIM,
    MAX_HIDDEN_SIZE,
    MAX_INTERMEDIATE_SIZE,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
    Architecture,
    FamilyName,
)
from minivault.models.families.family import Family
from minivault.models.families.layer_types import layer_windows, sliding_layers
from minivault.models.rope_config import KINDS, read_rope, rope_options, rotary_dim, stretched_context
from minivault.models.tensor_finder import Named, TensorFinder


def read_llama_like(
    config: Config,
    family: FamilyName,
    *,
    mlp: Literal["gated_silu", "gated_gelu_tanh"] = "gated_silu",
    attention_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    tied: bool = False,
    rope_kinds: tuple[str, ...] = KINDS,
    partial_rotary: bool = False,
) -> Architecture:
    """The fields that llama-like configs call alike: RMS norms, rotary positions, a gated MLP, no windows."""
    hidden = integer(config, "hidden_size", MAX_HIDDEN_SIZE)
    heads = integer(config, "num_attention_heads", MAX_ATTENTION_HEADS)
    layers = integer(config, "num_hidden_layers", MAX_LAYERS)
    head_dim = _head_dim(config, hidden, heads)
    context = integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    options = rope_options(config)
    rotated = rotary_dim(config, options, head_dim, partial=partial_rotary)
    rope = read_rope(config, options, context, rotated, kinds=rope_kinds)
    return Architecture(
        family=family,
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE),
        hidden_size=hidden,
        layers=layers,
        attention_heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=head_dim,
        intermediate_size=integer(config, "intermediate_size", MAX_INTERMEDIATE_SIZE),
        context_length=stretched_context(context, rope.scaling),
        norm="rms",
        norm_eps=number(config, "rms_norm_eps", 1e-12, 1e-1, default=1e-6),
        position="rope",
        mlp=mlp,
        attention_bias=attention_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        tied_embeddings=flag(config, "tie_word_embeddings", default=tied),
        attention_scale=1.0 / math.sqrt(head_dim),
        layer_windows=(None,) * layers,
        rotary_dim=rotated,
        ropes=(rope,),
        layer_ropes=(0,) * layers,
    )


def _head_dim(config: Config, hidden: int, heads: int) -> int:
    if config.get("head_dim") is None and hidden % heads:
        raise corrupt("hidden_size must be a multiple of num_attention_heads")
    head_dim = hidden // heads if config.get("head_dim") is None else integer(config, "head_dim", MAX_HEAD_DIM)
    if not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise corrupt(f"head_dim must be even, from 2 to {MAX_HEAD_DIM}")
    return head_dim


def _kv_heads(config: Config, heads: int) -> int:
    if config.get("num_key_value_heads") is None:
        return heads
    kv_heads = integer(config, "num_key_value_heads", MAX_ATTENTION_HEADS)
    if heads % kv_heads:
        raise corrupt("num_attention_heads must be a multiple of num_key_value_heads")
    return kv_heads


def _read_llama(config: Config) -> Architecture:
    require(config, "hidden_act", "silu", default="silu")
    bias = flag(config, "attention_bias", default=False)
    mlp_bias = flag(config, "mlp_bias", default=False)
    read = read_llama_like(config, "llama", attention_bias=bias, output_bias=bias, mlp_bias=mlp_bias)
    if any(sliding_layers(config, read.layers, default=())):
        raise unsupported("llama with a sliding window in layer_types", wanted="llama with full attention")
    return read


def _read_mistral(config: Config) -> Architecture:
    """Llama with a window, no biases and other defaults."""
    require(config, "hidden_act", "silu", default="silu")
    if config.get("layer_types") is not None:
        raise unsupported("mistral with layer_types", wanted="mistral without layer_types")
    refuse(config, "attention_bias", "mlp_bias")
    with_defaults = {"max_position_embeddings": 4096 * 32, "num_key_value_heads": 8, "sliding_window": 4096, **config}
    read = read_llama_like(with_defaults, "llama")
    sliding = (with_defaults["sliding_window"] is not None,) * read.layers
    return replace(read, layer_windows=layer_windows(with_defaults, sliding, read.context_length))


def llama_like_tensors(arch: Architecture, finder: TensorFinder) -> Named:
    """The tensors of Llama, with the biases, q and k norms and further norms that the description has."""
    yield "embed", finder.whole("embed_tokens.weight", arch.vocab_size, arch.hidden_size)
    for layer in range(arch.layers):
        name = f"layers.{layer}."
        yield from llama_like_norms(arch, finder, name)
        for canonical, stored, rows, columns, bias in _linears(arch):
            yield f"{name}{canonical}.weight", finder.whole(f"{name}{stored}.weight", rows, columns)
            if bias:
                yield f"{name}{canonical}.bias", finder.whole(f"{name}{stored}.bias", rows)
    yield "final_norm.weight", finder.whole("norm.weight", arch.hidden_size)


def llama_like_norms(arch: Architecture, finder: TensorFinder, layer: str) -> Named:
    """A layer's norms. With post norms ``post_attention_layernorm`` is what its name says; else it precedes the MLP."""
    norms = [("attn_norm", "input_layernorm", arch.hidden_size)]
    if arch.post_norms:
        norms.append(("post_attn_norm", "post_attention_layernorm", arch.hidden_size))
        norms.append(("mlp_norm", "pre_feedforward_layernorm", arch.hidden_size))
        norms.append(("post_mlp_norm", "post_feedforward_layernorm", arch.hidden_size))
    else:
        norms.append(("mlp_norm", "post_attention_layernorm", arch.hidden_size))
    if arch.qk_norm:
        norms.append(("q_norm", "self_attn.q_norm", arch.head_dim))
        norms.append(("k_norm", "self_attn.k_norm", arch.head_dim))
    for canonical, stored, size in norms:
        yield f"{layer}{canonical}.weight", finder.whole(f"{layer}{stored}.weight", size)


def _linears(arch: Architecture) -> tuple[tuple[str, str, int, int, bool], ...]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
    return (
        ("q", "self_attn.q_proj", queries, hidden, arch.attention_bias),
        ("k", "self_attn.k_proj", keys, hidden, arch.attention_bias),
        ("v", "self_attn.v_proj", keys, hidden, arch.attention_bias),
        ("o", "self_attn.o_proj", hidden, queries, arch.output_bias),
        ("gate", "mlp.gate_proj", inner, hidden, arch.mlp_bias),
        ("up", "mlp.up_proj", inner, hidden, arch.mlp_bias),
        ("down", "mlp.down_proj", hidden, inner, arch.mlp_bias),
    )


LLAMA_PREFIXES = {"model.": "lm_head.weight"}
LLAMA_BUFFERS = (".rotary_emb.inv_freq",)

LLAMA = Family({"llama": _read_llama, "mistral": _read_mistral}, llama_like_tensors, LLAMA_PREFIXES, LLAMA_BUFFERS)
