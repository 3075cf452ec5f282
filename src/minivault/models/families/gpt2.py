"""GPT-2: learned positions, layer norms, fused q, k, v, and weights that are stored transposed."""

from __future__ import annotations

import math
from collections.abc import Callable

from minivault.models.config_values import Config, corrupt, flag, gelu, integer, number, require
from minivault.models.description import (
    MAX_ATTENTION_HEADS,
    MAX_CONTEXT_LENGTH,
    MAX_HIDDEN_SIZE,
    MAX_INTERMEDIATE_SIZE,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
    Architecture,
)
from minivault.models.families.family import Family
from minivault.models.tensor_finder import LinearSource, Named, TensorFinder


def _read_gpt2(config: Config) -> Architecture:
    require(config, "scale_attn_weights", True, default=True)
    require(config, "scale_attn_by_inverse_layer_idx", False, default=False)
    require(config, "add_cross_attention", False, default=False)
    hidden = integer(config, "n_embd", MAX_HIDDEN_SIZE)
    heads = integer(config, "n_head", MAX_ATTENTION_HEADS)
    layers = integer(config, "n_layer", MAX_LAYERS)
    if hidden % heads:
        raise corrupt("n_embd must be a multiple of n_head")
    return Architecture(
        family="gpt2",
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE, default=50257),
        hidden_size=hidden,
        layers=layers,
        attention_heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=integer(config, "n_inner", MAX_INTERMEDIATE_SIZE, default=4 * hidden),
        context_length=integer(config, "n_positions", MAX_CONTEXT_LENGTH, default=1024),
        norm="layer",
        norm_eps=number(config, "layer_norm_epsilon", 1e-12, 1e-1, default=1e-5),
        position="learned",
        mlp=gelu(config, "activation_function", default="gelu_new"),
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=flag(config, "tie_word_embeddings", default=True),
        attention_scale=1.0 / math.sqrt(hidden // heads),
        layer_windows=(None,) * layers,
    )


def _tensors(arch: Architecture, finder: TensorFinder) -> Named:
    hidden = arch.hidden_size

    def qkv(ours: str, theirs: str) -> Named:
        for part, name in enumerate("qkv"):
            start, fused = part * hidden, f"{theirs}attn.c_attn"
            yield f"{ours}{name}.weight", finder.conv1d(f"{fused}.weight", hidden, hidden, start, 3 * hidden)
            yield f"{ours}{name}.bias", finder.part(f"{fused}.bias", hidden, start, 3 * hidden)

    return gpt2_like(arch, finder, qkv, finder.conv1d, "attn.c_proj")


def gpt2_like(
    arch: Architecture,
    finder: TensorFinder,
    qkv: Callable[[str, str], Named],
    matrix: Callable[[str, int, int], LinearSource],
    output: str,
) -> Named:
    """The tensors of a decoder that names them as GPT-2 does.

    ``qkv`` finds a layer's queries, keys and values by our prefix and theirs; ``matrix`` finds a weight of so many rows
    and columns; ``output`` is the name of attention's last matrix within its layer.
    """
    hidden, inner = arch.hidden_size, arch.intermediate_size
    yield "embed", finder.whole("wte.weight", arch.vocab_size, hidden)
    yield "pos_embed", finder.whole("wpe.weight", arch.context_length, hidden)
    for layer in range(arch.layers):
        ours, theirs = f"layers.{layer}.", f"h.{layer}."
        for kind in ("weight", "bias"):
            yield f"{ours}attn_norm.{kind}", finder.whole(f"{theirs}ln_1.{kind}", hidden)
            yield f"{ours}mlp_norm.{kind}", finder.whole(f"{theirs}ln_2.{kind}", hidden)
        yield from qkv(ours, theirs)
        for name, stored, rows, columns in (
            ("o", output, hidden, hidden),
            ("fc_in", "mlp.c_fc", inner, hidden),
            ("fc_out", "mlp.c_proj", hidden, inner),
        ):
            yield f"{ours}{name}.weight", matrix(f"{theirs}{stored}.weight", rows, columns)
            yield f"{ours}{name}.bias", finder.whole(f"{theirs}{stored}.bias", rows)
    for kind in ("weight", "bias"):
        yield f"final_norm.{kind}", finder.whole(f"ln_f.{kind}", hidden)


GPT2 = Family(
    {"gpt2": _read_gpt2},
    _tensors,
    {"transformer.": "lm_head.weight"},
    (".attn.bias", ".attn.masked_bias"),  # the causal mask, stored as a tensor by old files
)
