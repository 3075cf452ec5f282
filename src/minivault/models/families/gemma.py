"""Gemma 2 and 3: norms that store their distance from 1, norms after each block, local and global layers, soft caps.

Gemma 3 has q and k norms and other rotary positions on its local layers. Of its checkpoints with vision only the
language model is read: images are no input here, and the vision tensors are passed over.
"""

from __future__ import annotations

import math
from dataclasses import replace

from minivault.models.config_values import Config, corrupt, flag, integer, number, refuse, require, section, unsupported
from minivault.models.description import MAX_LAYERS, Architecture, FamilyName, Rope
from minivault.models.families.family import CAUSAL_HEADS, Family
from minivault.models.families.layer_types import FULL, SLIDING, layer_windows, sliding_layers
from minivault.models.families.llama import LLAMA_BUFFERS, llama_like_tensors, read_llama_like
from minivault.models.rope_config import KINDS, read_rope

_GEMMA2_DEFAULTS = {
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
    "sliding_window": 4096, "query_pre_attn_scalar": 256,
}  # fmt: skip
_GEMMA3_DEFAULTS = _GEMMA2_DEFAULTS | {"vocab_size": 262_208, "max_position_embeddings": 131_072}
"""Real config.json files leave such out."""

_GLOBAL_THETA, _LOCAL_THETA = 1e6, 1e4


def _read_gemma2(config: Config) -> Architecture:
    config = _GEMMA2_DEFAULTS | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0} | dict(config)
    read = _read_gemma(config, config, "gemma2")
    windows = _windows(config, read, [layer % 2 == 0 for layer in range(read.layers)])
    return replace(read, layer_windows=windows, attention_softcap=_softcap(config, "attn_logit_softcapping"))


def _read_gemma3_text(config: Config) -> Architecture:
    config = _GEMMA3_DEFAULTS | dict(config)
    refuse(config, "attn_logit_softcapping")
    without_rope = {name: value for name, value in config.items() if not name.startswith("rope_")}
    read = _read_gemma(config, without_rope, "gemma3")
    pattern = integer(config, "sliding_window_pattern", MAX_LAYERS, default=6)
    sliding = sliding_layers(config, read.layers, [(layer + 1) % pattern != 0 for layer in range(read.layers)])
    windows = layer_windows(config, sliding, read.context_length)
    ropes = _gemma3_ropes(config, read)
    return replace(read, layer_windows=windows, qk_norm=True, ropes=ropes, layer_ropes=tuple(map(int, sliding)))


def _read_gemma3(config: Config) -> Architecture:
    """A checkpoint with vision: the language model's config is an object of its own."""
    text = section(config, "text_config")
    require(text, "model_type", "gemma3_text", default="gemma3_text")
    if config.get("tie_word_embeddings") not in (None, text.get("tie_word_embeddings", True)):
        raise corrupt("tie_word_embeddings contradicts that of text_config")
    return _read_gemma3_text(text)


def _read_gemma(config: Config, rope_config: Config, family: FamilyName) -> Architecture:
    require(config, "hidden_activation", "gelu_pytorch_tanh", default="gelu_pytorch_tanh")
    refuse(config, "use_bidirectional_attention", "mlp_bias")
    bias = flag(config, "attention_bias", default=False)
    read = read_llama_like(rope_config, family, mlp="gated_gelu_tanh", attention_bias=bias, output_bias=bias, tied=True)
    return replace(
        read,
        norm_offset=1.0,
        post_norms=True,
        attention_scale=number(config, "query_pre_attn_scalar", 1e-3, 1e6) ** -0.5,
        logit_softcap=_softcap(config, "final_logit_softcapping"),
        embedding_scale=math.sqrt(read.hidden_size),
    )


def _windows(config: Config, read: Architecture, default: list[bool]) -> tuple[int | None, ...]:
    return layer_windows(config, sliding_layers(config, read.layers, default), read.context_length)


def _softcap(config: Config, name: str) -> float:
    """0 where the config says null."""
    return 0.0 if config.get(name) is None else number(config, name, 1e-3, 1e6)


def _gemma3_ropes(config: Config, read: Architecture) -> tuple[Rope, Rope]:
    """Of the global layers and of the local ones; older files scale the global ones only."""
    newer = section(config, "rope_parameters")
    if set(newer) - {FULL, SLIDING}:
        raise unsupported("rope_parameters of another form", wanted=f"rope_parameters with {FULL} and {SLIDING}")
    scaling = section(config, "rope_scaling")
    if newer and scaling:
        raise corrupt("rope_parameters and rope_scaling must not both be given")
    older_theta = {"rope_theta": config.get("rope_theta")}, {"rope_theta": config.get("rope_local_base_freq")}
    options = (section(newer, FULL) if newer else scaling), section(newer, SLIDING)
    for one in options:
        if one.get("partial_rotary_factor") not in (None, 1):
            raise unsupported("partial_rotary_factor other than 1", wanted="rotary positions over the whole head")
    kinds = tuple(kind for kind in KINDS if kind not in ("dynamic", "yarn"))
    context, rotated = read.context_length, read.rotary_dim
    return (
        read_rope(older_theta[0], options[0], context, rotated, theta=_GLOBAL_THETA, kinds=kinds),
        read_rope(older_theta[1], options[1], context, rotated, theta=_LOCAL_THETA, kinds=kinds),
    )


GEMMA2 = Family({"gemma2": _read_gemma2}, llama_like_tensors, {"model.": "lm_head.weight"}, LLAMA_BUFFERS)
GEMMA3 = Family(
    {"gemma3_text": _read_gemma3_text, "gemma3": _read_gemma3},
    llama_like_tensors,
    {
        "language_model.model.": "language_model.lm_head.weight",
        "model.language_model.": "lm_head.weight",
        "model.": "lm_head.weight",
    },
    LLAMA_BUFFERS,
    ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
    heads=(*CAUSAL_HEADS, "Gemma3ForConditionalGeneration"),
)
