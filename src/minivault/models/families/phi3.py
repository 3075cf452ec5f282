"""Phi-3 (Phi-4 too): Llama with fused q, k, v and fused gate and up, and a part of each head rotated. No LongRoPE."""

from __future__ import annotations

from dataclasses import replace

from minivault.models.config_values import Config, refuse, require
from minivault.models.description import Architecture
from minivault.models.families.family import Family
from minivault.models.families.layer_types import layer_windows
from minivault.models.families.llama import LLAMA_BUFFERS, LLAMA_PREFIXES, llama_like_norms, read_llama_like
from minivault.models.tensor_finder import Named, TensorFinder


def _read_phi3(config: Config) -> Architecture:
    require(config, "hidden_act", "silu", default="silu")
    refuse(config, "attention_bias", "mlp_bias", "lm_head_bias", "layer_types")
    with_defaults = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, **config}
    read = read_llama_like(with_defaults, "phi3", rope_kinds=("default",), partial_rotary=True)
    sliding = (config.get("sliding_window") is not None,) * read.layers
    return replace(read, layer_windows=layer_windows(config, sliding, read.context_length))


def _tensors(arch: Architecture, finder: TensorFinder) -> Named:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
    yield "embed", finder.whole("embed_tokens.weight", arch.vocab_size, hidden)
    for layer in range(arch.layers):
        name = f"layers.{layer}."
        yield from llama_like_norms(arch, finder, name)
        qkv, gate_up = f"{name}self_attn.qkv_proj.weight", f"{name}mlp.gate_up_proj.weight"
        for part, rows, start in (("q", queries, 0), ("k", keys, queries), ("v", keys, queries + keys)):
            yield f"{name}{part}.weight", finder.part(qkv, rows, start, queries + 2 * keys, hidden)
        yield f"{name}o.weight", finder.whole(f"{name}self_attn.o_proj.weight", hidden, queries)
        for part, start in (("gate", 0), ("up", inner)):
            yield f"{name}{part}.weight", finder.part(gate_up, inner, start, 2 * inner, hidden)
        yield f"{name}down.weight", finder.whole(f"{name}mlp.down_proj.weight", hidden, inner)
    yield "final_norm.weight", finder.whole("norm.weight", hidden)


PHI3 = Family({"phi3": _read_phi3}, _tensors, LLAMA_PREFIXES, LLAMA_BUFFERS)
