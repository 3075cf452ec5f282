"""GPT-Neo: GPT-2 with plain linears, unscaled attention, and windows on the layers that are called local."""

from __future__ import annotations

from minivault.models.config_values import Config, corrupt, flag, gelu, integer, number
from minivault.models.description import (
    MAX_ATTENTION_HEADS,
    MAX_CONTEXT_LENGTH,
    MAX_HIDDEN_SIZE,
    MAX_INTERMEDIATE_SIZE,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
    MAX_WINDOW,
    Architecture,
)
from minivault.models.families.family import Family
from minivault.models.families.gpt2 import gpt2_like
from minivault.models.tensor_finder import Named, TensorFinder


def _read_gpt_neo(config: Config) -> Architecture:
    hidden = integer(config, "hidden_size", MAX_HIDDEN_SIZE)
    heads = integer(config, "num_heads", MAX_ATTENTION_HEADS)
    layers = integer(config, "num_layers", MAX_LAYERS)
    context = integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    window = integer(config, "window_size", MAX_WINDOW, default=256)
    if hidden % heads:
        raise corrupt("hidden_size must be a multiple of num_heads")
    return Architecture(
        family="gpt_neo",
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE, default=50257),
        hidden_size=hidden,
        layers=layers,
        attention_heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=integer(config, "intermediate_size", MAX_INTERMEDIATE_SIZE, default=4 * hidden),
        context_length=context,
        norm="layer",
        norm_eps=number(config, "layer_norm_epsilon", 1e-12, 1e-1, default=1e-5),
        position="learned",
        mlp=gelu(config, "activation_function", default="gelu_new"),
        attention_bias=False,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=flag(config, "tie_word_embeddings", default=True),
        attention_scale=1.0,
        layer_windows=tuple(window if local and window < context else None for local in _local(config, layers)),
    )


def _local(config: Config, layers: int) -> list[bool]:
    """Whether each layer is local, from ``attention_types`` such as ``[[["global", "local"], 12]]``."""
    groups = config.get("attention_types")
    groups = [[["global", "local"], 12]] if groups is None else groups
    wrong = corrupt(f"attention_types must be lists of kinds (global, local) with counts, {layers} layers together")
    if not isinstance(groups, list):
        raise wrong
    kinds: list[str] = []
    for group in groups:
        if not isinstance(group, list) or len(group) != 2 or not isinstance(group[0], list):
            raise wrong
        pattern, count = group
        if type(count) is not int or not 0 <= count <= MAX_LAYERS or len(pattern) > MAX_LAYERS:
            raise wrong
        if any(kind not in ("global", "local") for kind in pattern):
            raise wrong
        kinds += pattern * count
        if len(kinds) > layers:
            raise wrong
    if len(kinds) != layers or config.get("attention_layers") not in (None, kinds):
        raise wrong
    return [kind == "local" for kind in kinds]


def _tensors(arch: Architecture, finder: TensorFinder) -> Named:
    hidden = arch.hidden_size

    def qkv(ours: str, theirs: str) -> Named:
        for name in "qkv":
            yield f"{ours}{name}.weight", finder.whole(f"{theirs}attn.attention.{name}_proj.weight", hidden, hidden)

    return gpt2_like(arch, finder, qkv, finder.whole, "attn.attention.out_proj")


GPT_NEO = Family(
    {"gpt_neo": _read_gpt_neo},
    _tensors,
    {"transformer.": "lm_head.weight"},
    (".attn.attention.bias", ".attn.attention.masked_bias"),  # the masks, stored as tensors by old files
)
