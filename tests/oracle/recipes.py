"""What the oracle is asked to make: one recipe for each family, variant and way of storing.

Knows Transformers' configs; makes nothing itself.
"""

# mypy: disable-error-code="import-not-found, no-any-return"
# why: PyTorch and Transformers live in an environment of their own, where types are checked without them

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import (
    FalconConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what Transformers is asked for, and how it is stored."""

    name: str
    config: Any
    dtype: torch.dtype
    prompt_length: int = 40
    max_shard_size: str = "5GB"
    sentencepiece: bool = False
    old_names: bool = False
    least_tokens: int = 1
    """Different tokens that the greedy answer must have: one that repeats itself shows little."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Factors on the random weights whose names contain the key."""
    stored_config: Mapping[str, Any] = field(default_factory=dict)
    """Changes to config.json as it is stored, ``None`` removing: the spelling of older files."""


def llama(**changes: Any) -> LlamaConfig:
    values: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    return LlamaConfig(**(values | changes))


def recipes() -> Iterator[Recipe]:
    """All of them; a checkpoint's seed is its place in this order."""
    yield Recipe("llama-gqa", llama(), torch.float32)
    yield Recipe(
        "llama-tied-bias",
        # why these sizes: none is a multiple of 32, and the heads are wider together than the hidden size
        llama(
            vocab_size=331, hidden_size=72, head_dim=16, num_attention_heads=6, num_key_value_heads=3,
            intermediate_size=100, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
            bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5,
        ),
        torch.bfloat16,
        sentencepiece=True,
    )  # fmt: skip
    yield Recipe("llama-sharded", llama(num_hidden_layers=3), torch.float16, max_shard_size="80KB")
    scaling = {
        "rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    yield Recipe("llama3-rope", llama(rope_parameters=scaling), torch.bfloat16, prompt_length=100)
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    yield Recipe("llama-linear-rope", llama(rope_parameters=linear), torch.bfloat16, prompt_length=80)
    window = MistralConfig(
        **{**llama().to_dict(), "sliding_window": 16, "model_type": "mistral", "architectures": None}
    )
    yield Recipe("mistral-window", window, torch.bfloat16, prompt_length=80)
    gpt2 = GPT2Config(
        vocab_size=320, n_embd=64, n_layer=2, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0, n_inner=None
    )
    yield Recipe("gpt2", gpt2, torch.float32)
    narrow = GPT2Config(
        vocab_size=320, n_embd=60, n_layer=3, n_head=5, n_positions=200, bos_token_id=0, eos_token_id=0, n_inner=132
    )
    yield Recipe("gpt2-old-names", narrow, torch.float16, old_names=True)
    for some in (_gpt_neo_and_qwen(), _phi3(), _falcon(), _gemma(), _stretched()):
        for recipe in some:
            yield replace(recipe, least_tokens=10)


_ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
_SMALL: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, **_ENDS,
}  # fmt: skip


def _gpt_neo_and_qwen() -> Iterator[Recipe]:
    neo = GPTNeoConfig(
        vocab_size=320, hidden_size=48, num_layers=2, num_heads=4, max_position_embeddings=160, window_size=8,
        attention_types=[[["global", "local"], 1]], **_ENDS,
    )  # fmt: skip
    yield Recipe("gpt-neo", neo, torch.float16, scales={".q_proj.": 0.5, ".k_proj.": 0.5})
    # why: head_dim 14 and hidden size 56 are no multiples of anything; one layer has a window, one has not
    qwen2 = Qwen2Config(
        **_SMALL | {"hidden_size": 56}, tie_word_embeddings=True, use_sliding_window=True, sliding_window=12,
        max_window_layers=1,
    )  # fmt: skip
    yield Recipe("qwen2", qwen2, torch.bfloat16)
    older = {"rope_parameters": None, "layer_types": None, "rope_theta": 1e6, "use_sliding_window": False}
    plain = Qwen2Config(**_SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    yield Recipe("qwen2-old-config", plain, torch.float16, stored_config=older | {"sliding_window": 32768})
    qwen3 = Qwen3Config(**_SMALL, head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    yield Recipe("qwen3", qwen3, torch.bfloat16)


def _phi3() -> Iterator[Recipe]:
    partial = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    phi3 = Phi3Config(**_SMALL | {"hidden_size": 64}, rope_parameters=partial, sliding_window=20)
    yield Recipe("phi3", phi3, torch.bfloat16)
    older = {"rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": None, "sliding_window": 2047}
    yield Recipe("phi3-old-config", Phi3Config(**_SMALL), torch.float16, stored_config=older)


def _falcon() -> Iterator[Recipe]:
    sizes = {"vocab_size": 320, "num_hidden_layers": 2, "max_position_embeddings": 256, **_ENDS}
    # why an odd number of heads: Falcon 7B has 71
    seven = FalconConfig(**sizes, hidden_size=60, num_attention_heads=5)
    yield Recipe("falcon-7b", seven, torch.bfloat16)
    small = sizes | {"hidden_size": 64, "num_attention_heads": 8, "ffn_hidden_size": 96, "bias": True}
    sharper = {".query_key_value.": 1.5}
    new = FalconConfig(**small, num_kv_heads=2, new_decoder_architecture=True)
    yield Recipe("falcon-new-decoder", new, torch.float16)
    one_norm = FalconConfig(
        **small | {"bias": False}, num_kv_heads=4, new_decoder_architecture=True, num_ln_in_parallel_attn=1
    )
    yield Recipe("falcon-one-norm", one_norm, torch.bfloat16, scales=sharper)
    sequential = FalconConfig(**small, multi_query=False, parallel_attn=False, activation="gelu_pytorch_tanh")
    yield Recipe("falcon-sequential", sequential, torch.bfloat16, scales=sharper)


def _gemma() -> Iterator[Recipe]:
    caps = {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 1.5}
    # why: a tied model with scaled embeddings would else repeat one token for ever
    weak = {"embed_tokens": 0.3, ".q_proj.": 1.5}
    shape = _SMALL | {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 12, "pad_token_id": 0}
    yield Recipe("gemma2", Gemma2Config(**shape, **caps), torch.bfloat16, scales=weak)
    yield Recipe("gemma2-old-config", Gemma2Config(**shape, **caps), torch.bfloat16, scales=weak, stored_config={
        "rope_parameters": None, "layer_types": None, "rope_theta": 10000.0, "hidden_act": "gelu_pytorch_tanh",
    })  # fmt: skip
    text = shape | {"num_hidden_layers": 3}
    local = {"rope_type": "default", "rope_theta": 50.0}
    ropes = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": local}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    gemma3 = Gemma3TextConfig(**text, layer_types=kinds, rope_parameters=ropes)
    yield Recipe("gemma3", gemma3, torch.bfloat16, scales=weak)
    yield Recipe("gemma3-old-config", gemma3, torch.bfloat16, scales=weak, stored_config={
        "rope_parameters": None, "layer_types": None, "_sliding_window_pattern": None, "sliding_window_pattern": 2,
        "rope_theta": 1e6, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    })  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    both = Gemma3Config(
        text_config=gemma3.to_dict() | {"num_hidden_layers": 2, "layer_types": kinds[:2], "vocab_size": 323},
        vision_config=vision, mm_tokens_per_image=4, image_token_index=320, boi_token_index=321, eoi_token_index=322,
    )  # fmt: skip
    yield Recipe("gemma3-vision", both, torch.bfloat16, scales=weak)


def _stretched() -> Iterator[Recipe]:
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 32}
    yield Recipe("llama-yarn", LlamaConfig(**_SMALL, rope_parameters=yarn), torch.bfloat16, prompt_length=60)
    weighed = yarn | {
        "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 4.0, "beta_slow": 0.5,
        "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False,
    }  # fmt: skip
    qwen3 = Qwen3Config(**_SMALL, head_dim=32, tie_word_embeddings=True, rope_parameters=weighed)
    yield Recipe("qwen3-yarn", qwen3, torch.bfloat16)
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
    short = LlamaConfig(**_SMALL | {"max_position_embeddings": 48}, rope_parameters=dynamic)
    yield Recipe("llama-dynamic", short, torch.bfloat16)
