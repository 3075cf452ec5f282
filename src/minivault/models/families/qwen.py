"""Qwen 2 (2.5 too: biases on q, k and v) and Qwen 3 (q and k norms); windows from some layer on, where switched on."""

from __future__ import annotations

from dataclasses import replace

from minivault.models.config_values import Config, flag, integer, refuse, require
from minivault.models.description import MAX_LAYERS, Architecture
from minivault.models.families.family import Family
from minivault.models.families.layer_types import layer_windows, sliding_layers
from minivault.models.families.llama import LLAMA_BUFFERS, LLAMA_PREFIXES, llama_like_tensors, read_llama_like


def _read_qwen2(config: Config) -> Architecture:
    require(config, "attention_bias", True, default=True)
    _refuse_options(config)
    read = read_llama_like({"max_position_embeddings": 32768, **config}, "qwen2", attention_bias=True)
    return _with_windows(read, config)


def _read_qwen3(config: Config) -> Architecture:
    _refuse_options(config)
    bias = flag(config, "attention_bias", default=False)
    with_defaults = {"max_position_embeddings": 32768, "head_dim": 128, **config}
    read = read_llama_like(with_defaults, "qwen3", attention_bias=bias, output_bias=bias)
    return _with_windows(replace(read, qk_norm=True), config)


def _refuse_options(config: Config) -> None:
    require(config, "hidden_act", "silu", default="silu")
    refuse(config, "use_mrope", "dual_chunk_attention_config", "mlp_bias")


def _with_windows(read: Architecture, config: Config) -> Architecture:
    """``use_sliding_window`` gives the layers from ``max_window_layers`` on a window, or those of ``layer_types``."""
    switched_on = flag(config, "use_sliding_window", default=False)
    window = config.get("sliding_window", 4096) if switched_on else None
    first = _first_window_layer(config)
    default = [window is not None and layer >= first for layer in range(read.layers)]
    sliding = sliding_layers(config, read.layers, default)
    return replace(read, layer_windows=layer_windows({"sliding_window": window}, sliding, read.context_length))


def _first_window_layer(config: Config) -> int:
    if config.get("max_window_layers") == 0:
        return 0
    return integer(config, "max_window_layers", MAX_LAYERS, default=28)


QWEN2 = Family({"qwen2": _read_qwen2}, llama_like_tensors, LLAMA_PREFIXES, LLAMA_BUFFERS)
QWEN3 = Family({"qwen3": _read_qwen3}, llama_like_tensors, LLAMA_PREFIXES, LLAMA_BUFFERS)
