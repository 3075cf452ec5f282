"""Real models' configs, in the spelling of their files, become true descriptions; what cannot be said is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.errors import CheckpointCorrupt, CheckpointError, UnsupportedCheckpoint
from minivault.models.architecture import Rope, RopeScaling, read_architecture

Config = dict[str, Any]

QWEN2: Config = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "max_position_embeddings": 32768, "max_window_layers": 21, "sliding_window": 32768, "use_sliding_window": False,
    "use_mrope": False, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3: Config = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "head_dim": 128,
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960, "max_window_layers": 28,
    "sliding_window": None, "use_sliding_window": False, "rope_scaling": None, "rope_theta": 1000000,
    "tie_word_embeddings": True,
}  # fmt: skip
GEMMA2: Config = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0, "cache_implementation": "hybrid", "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
    "intermediate_size": 9216, "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26,
    "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rope_theta": 10000.0, "sliding_window": 4096,
    "vocab_size": 256000,
}  # fmt: skip
GEMMA3: Config = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "attn_logit_softcapping": None,
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
    "intermediate_size": 6912, "max_position_embeddings": 32768, "num_attention_heads": 4, "num_hidden_layers": 26,
    "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000, "rope_scaling": None,
    "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262144,
}  # fmt: skip
GEMMA3_VISION: Config = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "vision_config": {"image_size": 896},
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
}  # fmt: skip
PHI3: Config = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "attention_bias": False, "hidden_act": "silu",
    "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "vocab_size": 32064,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT_NEO: Config = {
    "architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo", "activation_function": "gelu_new",
    "attention_layers": ["global", "local"] * 6, "attention_types": [[["global", "local"], 6]], "hidden_size": 768,
    "intermediate_size": None, "layer_norm_epsilon": 1e-05, "max_position_embeddings": 2048, "num_heads": 12,
    "num_layers": 12, "vocab_size": 50257, "window_size": 256,
}  # fmt: skip
FALCON: Config = {
    "architectures": ["FalconForCausalLM"], "model_type": "falcon", "alibi": False, "bias": False,
    "apply_residual_connection_post_layernorm": False, "hidden_size": 4544, "layer_norm_epsilon": 1e-05,
    "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32,
    "parallel_attn": True, "vocab_size": 65024,
}  # fmt: skip
YARN: Config = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
ALL = [QWEN2, QWEN3, GEMMA2, GEMMA3, GEMMA3_VISION, PHI3, GPT_NEO, FALCON]


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (QWEN2, 494_032_768),
        (QWEN3, 596_049_920),
        (GEMMA2, 2_614_341_888),
        (GEMMA3, 999_885_952),
        (PHI3, 3_821_079_552),
        (GPT_NEO, 125_198_592),
        (FALCON, 6_921_720_704),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else None,
)
def test_real_models_have_their_true_number_of_parameters(config: Config, parameters: int) -> None:
    assert read_architecture(config).parameters == parameters


def test_windows_of_qwen_begin_at_a_layer_and_only_where_switched_on() -> None:
    assert set(read_architecture(QWEN2).layer_windows) == {None}
    switched_on = read_architecture(QWEN2 | {"use_sliding_window": True, "sliding_window": 4096})
    assert switched_on.layer_windows == (None,) * 21 + (4096,) * 3


def test_layer_types_decide_over_the_older_rule() -> None:
    kinds = ["sliding_attention", *["full_attention"] * 23]
    read = read_architecture(QWEN2 | {"use_sliding_window": True, "sliding_window": 4096, "layer_types": kinds})
    assert read.layer_windows == (4096, *(None,) * 23)


def test_gemma_2_alternates_beginning_with_a_window() -> None:
    read = read_architecture(GEMMA2)
    assert read.layer_windows[:3] == (4096, None, 4096)
    assert (read.attention_softcap, read.logit_softcap, read.attention_scale) == (50.0, 30.0, 1 / 16)
    assert (read.embedding_scale, read.norm_offset, read.post_norms) == (math.sqrt(2304), 1.0, True)


def test_every_sixth_layer_of_gemma_3_is_global_with_its_own_rotation() -> None:
    read = read_architecture(GEMMA3)
    assert read.layer_windows[:7] == (512, 512, 512, 512, 512, None, 512)
    assert read.ropes == (Rope(1e6, None), Rope(1e4, None))
    assert read.layer_ropes[:7] == (1, 1, 1, 1, 1, 0, 1)


def test_the_text_part_of_gemma_3_with_vision_is_read_with_its_defaults() -> None:
    read = read_architecture(GEMMA3_VISION)
    assert (read.vocab_size, read.attention_heads, read.context_length) == (262_208, 8, 131_072)
    assert read.ropes == (Rope(1e6, RopeScaling("linear", 8.0)), Rope(1e4, None))


def test_gpt_neo_scales_no_scores_and_has_local_layers() -> None:
    read = read_architecture(GPT_NEO)
    assert (read.attention_scale, read.layer_windows[:2], read.intermediate_size) == (1.0, (None, 256), 3072)


def test_falcon_7b_shares_one_norm_and_one_key_head() -> None:
    read = read_architecture(FALCON)
    assert (read.parallel, read.shared_norm, read.kv_heads, read.mlp) == (True, True, 1, "gelu")


def test_phi_3_may_rotate_a_part_of_each_head() -> None:
    assert read_architecture(PHI3).rotary_dim == 96
    assert read_architecture(PHI3 | {"partial_rotary_factor": 0.75}).rotary_dim == 72


def test_yarn_stretches_the_context_and_weighs_attention_by_its_factor() -> None:
    read = read_architecture(QWEN2 | {"rope_scaling": YARN})
    assert read.context_length == 131072
    assert read.ropes[0].scaling == RopeScaling(
        "yarn", 4.0, original_context_length=32768, attention_factor=0.1 * math.log(4) + 1
    )


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"attention_factor": 0.7}, 0.7),
        ({"mscale": 1.0, "mscale_all_dim": 0.5}, (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1)),
        ({"mscale": 1.0}, 0.1 * math.log(4) + 1),
    ],
)
def test_the_attention_factor_of_yarn_is_given_or_a_ratio(options: Config, factor: float) -> None:
    scaling = read_architecture(QWEN2 | {"rope_scaling": YARN | options}).ropes[0].scaling
    assert scaling is not None
    assert scaling.attention_factor == pytest.approx(factor, rel=1e-12)


def test_dynamic_scaling_grows_from_the_context_of_the_config() -> None:
    read = read_architecture(QWEN2 | {"rope_scaling": {"type": "dynamic", "factor": 2.0}})
    assert read.context_length == 65536
    assert read.ropes[0].scaling == RopeScaling("dynamic", 2.0, original_context_length=32768)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (QWEN2 | {"use_mrope": True}, "use_mrope"),
        (QWEN2 | {"dual_chunk_attention_config": {"chunk_size": 1}}, "dual_chunk_attention_config"),
        (QWEN2 | {"attention_bias": False}, "attention_bias"),
        (QWEN2 | {"layer_types": ["linear_attention"] * 24}, "linear_attention"),
        (QWEN2 | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}}, "mrope"),
        (QWEN2 | {"rope_scaling": YARN | {"alpha": 1000}}, "alpha"),
        (QWEN3 | {"hidden_act": "gelu"}, "hidden_act"),
        (GEMMA2 | {"hidden_activation": "gelu"}, "hidden_activation"),
        (GEMMA2 | {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (GEMMA3 | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA3 | {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "yarn"),
        (GEMMA3 | {"rope_parameters": {"rope_theta": 1.0}}, "rope_parameters"),
        (GEMMA3 | {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (GEMMA3_VISION | {"architectures": ["Gemma3ForSequenceClassification"]}, "Gemma3ForSequenceClassification"),
        (PHI3 | {"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}}, "longrope"),
        (PHI3 | {"rope_scaling": {"type": "su"}}, "su"),
        (PHI3 | {"partial_rotary_factor": 0.7}, "partial_rotary_factor"),
        (PHI3 | {"attention_bias": True}, "attention_bias"),
        (GPT_NEO | {"activation_function": "relu"}, "relu"),
        (FALCON | {"alibi": True}, "alibi"),
        (FALCON | {"new_decoder_architecture": True, "parallel_attn": False}, "new_decoder_architecture"),
        (FALCON | {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
        (FALCON | {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
        (FALCON | {"activation": "swish"}, "activation"),
    ],
)
def test_what_the_description_cannot_say_is_refused_by_name_with_a_way_out(config: Config, found: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=found) as refused:
        read_architecture(config)
    assert "supported" in refused.value.message
    assert "transformers" in refused.value.message


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (QWEN2 | {"layer_types": ["full_attention"]}, "layer_types"),
        (QWEN2 | {"layer_types": ["sliding_attention"] * 24}, "sliding_window"),
        (QWEN2 | {"max_window_layers": -1}, "max_window_layers"),
        (QWEN2 | {"rope_scaling": YARN | {"beta_fast": 0.5}}, "beta_fast"),
        (QWEN2 | {"rope_scaling": YARN | {"truncate": 1}}, "truncate"),
        (QWEN2 | {"rope_scaling": {"type": "dynamic"}}, "factor"),
        (GEMMA2 | {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        (GEMMA2 | {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping"),
        (GEMMA2 | {"sliding_window": None}, "sliding_window"),
        (GEMMA3_VISION | {"text_config": [1]}, "text_config"),
        (GEMMA3_VISION | {"tie_word_embeddings": False}, "tie_word_embeddings"),
        (PHI3 | {"sliding_window": 0}, "sliding_window"),
        (GPT_NEO | {"attention_types": [[["global"], 3]]}, "attention_types"),
        (GPT_NEO | {"attention_types": [[["global", "wide"], 6]]}, "attention_types"),
        (GPT_NEO | {"attention_types": [["global", 1 << 40]]}, "attention_types"),
        (GPT_NEO | {"attention_layers": ["global"] * 12}, "attention_types"),
        (GPT_NEO | {"num_heads": 7}, "num_heads"),
        (FALCON | {"num_attention_heads": 70}, "num_attention_heads"),
        (FALCON | {"multi_query": False, "num_kv_heads": 2}, "num_kv_heads"),
        (FALCON | {"new_decoder_architecture": True, "num_kv_heads": 8}, "num_kv_heads"),
        (FALCON | {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn"),
    ],
)
def test_a_value_that_lies_is_an_error_that_names_it(config: Config, name: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=name):
        read_architecture(config)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({name for config in ALL for name in config} | {"rope_parameters", "layer_types", "num_kv_heads"})


@given(base=st.sampled_from(ALL), changes=st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4))
def test_no_config_does_worse_than_a_clear_error(base: Config, changes: Config) -> None:
    try:
        arch = read_architecture(base | changes)
    except CheckpointError:
        return
    assert arch.parameters > 0
    assert len(arch.layer_windows) == arch.layers
    assert all(0 <= rope < len(arch.ropes) for rope in arch.layer_ropes)


@given(options=st.dictionaries(st.sampled_from([*YARN, "rope_type", "mscale", "truncate"]), json_values, max_size=4))
def test_no_rope_option_does_worse_than_a_clear_error(options: Config) -> None:
    try:
        arch = read_architecture(QWEN2 | {"rope_scaling": YARN | options})
    except CheckpointError:
        return
    assert arch.context_length <= 1 << 20
