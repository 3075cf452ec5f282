"""config.json becomes a description that says everything, or a clear refusal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.errors import CheckpointCorrupt, CheckpointError, UnsupportedCheckpoint
from minivault.models.architecture import RopeScaling, read_architecture

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 2048,
    "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "rope_scaling": None,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 6, "n_head": 12, "n_positions": 1024,
    "n_ctx": 1024, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
}  # fmt: skip
MISTRAL = LLAMA | {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 1024}
LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024,
    "rope_type": "llama3",
}  # fmt: skip


def test_tinyllama_is_described_with_its_true_number_of_parameters() -> None:
    arch = read_architecture(LLAMA)
    assert (arch.family, arch.head_dim, arch.kv_heads, arch.parameters) == ("llama", 64, 4, 1_100_048_384)
    assert arch.attention_scale == 1 / math.sqrt(64)


def test_distilgpt2_is_described_with_its_true_number_of_parameters() -> None:
    arch = read_architecture(GPT2)
    assert (arch.family, arch.position, arch.tied_embeddings, arch.parameters) == ("gpt2", "learned", True, 81_912_576)


def test_mistral_is_llama_with_a_window() -> None:
    arch = read_architecture(MISTRAL)
    assert (arch.family, arch.layer_windows[0]) == ("llama", 1024)


@pytest.mark.parametrize("window", [None, 2048, 4096])
def test_a_window_as_long_as_the_context_is_none(window: int | None) -> None:
    assert read_architecture(MISTRAL | {"sliding_window": window}).layer_windows[0] is None


def test_newer_files_keep_theta_and_scaling_in_rope_parameters() -> None:
    newer = {name: value for name, value in LLAMA.items() if name not in ("rope_theta", "rope_scaling", "torch_dtype")}
    arch = read_architecture(newer | {"dtype": "bfloat16", "rope_parameters": {"rope_theta": 5e5, **LLAMA3}})
    assert arch == read_architecture(LLAMA | {"rope_theta": 500000, "rope_scaling": LLAMA3})
    assert arch.ropes[0].scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 1024)


def test_linear_scaling_is_read_under_its_old_key() -> None:
    arch = read_architecture(LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}})
    assert arch.ropes[0].scaling == RopeScaling("linear", 2.0)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({}, "no model_type"),
        (LLAMA | {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "longrope"),
        (LLAMA | {"hidden_act": "gelu"}, "gelu"),
        (LLAMA | {"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (LLAMA | {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        (GPT2 | {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (GPT2 | {"activation_function": "relu"}, "relu"),
        (GPT2 | {"add_cross_attention": True}, "add_cross_attention"),
        (MISTRAL | {"layer_types": ["full_attention"]}, "layer_types"),
    ],
)
def test_what_the_engine_lacks_is_refused_by_name_with_a_way_out(config: dict[str, Any], found: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=found) as refused:
        read_architecture(config)
    assert "supported" in refused.value.message
    assert "transformers" in refused.value.message


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"hidden_size": 1 << 40}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"num_attention_heads": 30}, "num_attention_heads"),
        ({"head_dim": 63}, "head_dim"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": 1.0}, "rope_theta must be above 1"),
        ({"max_position_embeddings": -1}, "max_position_embeddings"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 0.5}}, "high_freq_factor"),
        ({"architectures": 3}, "architectures"),
    ],
)
def test_a_lying_number_is_an_error_that_names_it(changed: dict[str, Any], name: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=name):
        read_architecture(LLAMA | changed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    base=st.sampled_from([LLAMA, GPT2, MISTRAL]),
    changes=st.dictionaries(st.sampled_from(sorted({*LLAMA, *GPT2, "sliding_window"})), json_values, max_size=4),
)
def test_no_config_does_worse_than_a_clear_error(base: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        arch = read_architecture(base | changes)
    except CheckpointError:
        return
    assert arch.parameters > 0
    assert arch.context_length <= 1 << 20
