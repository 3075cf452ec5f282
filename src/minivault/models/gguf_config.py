"""What a GGUF file's metadata says of its model, as a ``config.json``, and which of its tensors becomes which.

Pure functions over values. GGUF tells less than a ``config.json``; what llama.cpp knows by heart is known here too, and
what cannot be told is refused. Knows nothing of files, arrays or tokenizers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.json_file import shown
from minivault.models.rope_config import MAX_THETA

Config = dict[str, Any]


class Metadata:
    """Metadata read by name and type; ``{}`` in a name stands for the architecture."""

    def __init__(self, values: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> None:
        self._values = values
        self.tensors = tensors
        """Shapes by name."""
        self.architecture = self.text("general.architecture")

    def has(self, tensor: str) -> bool:
        return tensor in self.tensors

    def text(self, name: str, default: str | None = None) -> str:
        return str(self._typed(name, str, default))

    def integer(self, name: str, default: int | None = None) -> int:
        found = int(self._typed(name, int, default))
        if not 0 <= found < 1 << 40:
            raise CheckpointCorrupt(f"{shown(self._full(name))} of the GGUF file is out of bounds")
        return found

    def number(self, name: str, default: float | None = None) -> float:
        found = self._typed(name, (int, float), default)
        if not math.isfinite(found) or abs(found) > 3e38:
            raise CheckpointCorrupt(f"{shown(self._full(name))} of the GGUF file is not finite")
        return _shortest(float(found))

    def flag(self, name: str, default: bool | None = None) -> bool:
        return bool(self._typed(name, bool, default))

    def get(self, name: str) -> Any:
        """The raw value, or ``None``."""
        return self._values.get(self._full(name))

    def _full(self, name: str) -> str:
        return name.replace("{}", self.architecture) if "{}" in name else name

    def _typed(self, name: str, kind: Any, default: Any) -> Any:
        found = self._values.get(self._full(name))
        found = default if found is None else found
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise CheckpointCorrupt(f"{shown(self._full(name))} of the GGUF file is missing or of the wrong type")
        return found


def _shortest(value: float) -> float:
    """The file has 32 bits; the shortest decimal that they stand for is what was meant: 1e-06, not 9.9999999747e-07."""
    for digits in range(1, 9):
        shorter = float(f"{value:.{digits}g}")
        if abs(shorter) < 3e38 and struct.pack("<f", shorter) == struct.pack("<f", value):
            return shorter
    return value


def config_of(meta: Metadata, rope_factors: Sequence[float] | None) -> Config:
    """The ``config.json``. ``rope_factors``: the values of ``rope_freqs.weight``, where the file has it.

    Raises:
        UnsupportedCheckpoint: an architecture or an option that no family here has.
        CheckpointCorrupt: a value is missing or out of bounds.
    """
    reader = _READERS.get(meta.architecture)
    if reader is None:
        raise UnsupportedCheckpoint(
            f"The GGUF file's architecture is {shown(meta.architecture)!r}; supported: {', '.join(sorted(_READERS))}"
        )
    if meta.integer("{}.expert_count", 0):
        raise UnsupportedCheckpoint("The GGUF file is a mixture of experts, which is not supported")
    if meta.integer("split.count", 1) > 1:
        raise UnsupportedCheckpoint("The GGUF file is one of several parts: join them with llama-gguf-split --merge")
    for name in ("rope_factors_long.weight", "rope_factors_short.weight"):
        if meta.has(name):
            raise UnsupportedCheckpoint("The GGUF file has LongRoPE factors, which are not supported")
    if rope_factors is not None and meta.architecture != "llama":
        raise UnsupportedCheckpoint("The GGUF file has rope_freqs.weight outside the llama architecture")
    config = reader(meta)
    if rope_factors is not None:
        config["rope_scaling"] = _llama3_scaling(rope_factors, config)
    ends = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    for key, name in ends.items():
        if meta.get(f"tokenizer.ggml.{name}_token_id") is not None:
            config[key] = meta.integer(f"tokenizer.ggml.{name}_token_id")
    return config


def _llama_like(meta: Metadata, model_type: str, head: str, **more: Any) -> Config:
    heads = meta.integer("{}.attention.head_count")
    hidden = meta.integer("{}.embedding_length")
    if not heads or not hidden:
        raise CheckpointCorrupt("The GGUF file has no attention heads or no width")
    head_dim = meta.integer("{}.attention.key_length", hidden // heads)
    if meta.integer("{}.attention.value_length", head_dim) != head_dim:
        raise UnsupportedCheckpoint("The GGUF file has values that are not as wide as keys")
    config = {
        "model_type": model_type,
        "architectures": [head],
        "vocab_size": _vocab_size(meta),
        "hidden_size": hidden,
        "num_hidden_layers": meta.integer("{}.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.integer("{}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": meta.integer("{}.feed_forward_length"),
        "max_position_embeddings": meta.integer("{}.context_length"),
        "rms_norm_eps": meta.number("{}.attention.layer_norm_rms_epsilon"),
        "rope_theta": meta.number("{}.rope.freq_base", 10_000.0),
        "tie_word_embeddings": not meta.has("output.weight"),
        **more,
    }
    rotated = meta.integer("{}.rope.dimension_count", head_dim)
    if rotated != head_dim:
        config["partial_rotary_factor"] = rotated / max(1, head_dim)
    scaling = _scaling(meta)
    if scaling is not None:
        config["rope_scaling"] = scaling
    return config


def _scaling(meta: Metadata) -> Config | None:
    kind = meta.text("{}.rope.scaling.type", "none")
    factor = meta.number("{}.rope.scaling.factor", meta.number("{}.rope.scale_linear", 1.0))
    if kind == "none" and factor == 1.0:
        return None
    if kind in ("none", "linear"):
        return None if factor == 1.0 else {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": meta.integer("{}.rope.scaling.original_context_length"),
        }
    raise UnsupportedCheckpoint(f"The GGUF file's rope scaling is {shown(kind)!r}; supported: none, linear, yarn")


def _llama3_scaling(factors: Sequence[float], config: Config) -> Config:
    """Llama 3's scaling, told from the divisors that were computed from it: its other values are always these."""
    dimension, theta = config["head_dim"], config["rope_theta"]
    if dimension % 2 or len(factors) != dimension // 2:
        raise CheckpointCorrupt(
            "rope_freqs.weight of the GGUF file must have a value for each two dimensions of a head"
        )
    if not all(math.isfinite(factor) and factor > 0 for factor in factors):
        raise CheckpointCorrupt("rope_freqs.weight of the GGUF file must hold finite numbers above 0")
    if not 1 < theta <= MAX_THETA:
        raise CheckpointCorrupt(f"rope.freq_base of the GGUF file must be above 1 and at most {MAX_THETA:g}")
    factor = round(max(factors, default=0.0), 3)
    for original in (8192, *(1 << power for power in range(6, 20))):
        if factor >= 1 and _are_close(factors, _llama3_factors(factor, original, theta, dimension)):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }
    raise UnsupportedCheckpoint("The GGUF file's rope_freqs.weight is not the scaling of Llama 3")


def _are_close(factors: Sequence[float], found: Sequence[float]) -> bool:
    return all(math.isclose(one, other, rel_tol=1e-3) for one, other in zip(found, factors, strict=True))


def _llama3_factors(factor: float, original: int, theta: float, dimension: int) -> list[float]:
    found = []
    for place in range(0, dimension, 2):
        wavelength = 2 * math.pi * theta ** (place / dimension)
        if wavelength < original / 4.0:
            found.append(1.0)
        elif wavelength > original / 1.0:
            found.append(factor)
        else:
            smooth = (original / wavelength - 1.0) / 3.0
            found.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return found


def _vocab_size(meta: Metadata) -> int:
    if not meta.has("token_embd.weight"):
        raise CheckpointCorrupt("The GGUF file lacks the tensor token_embd.weight")
    return meta.tensors["token_embd.weight"][0]


def _llama(meta: Metadata) -> Config:
    bias, mlp_bias = meta.has("blk.0.attn_q.bias"), meta.has("blk.0.ffn_gate.bias")
    return _llama_like(meta, "llama", "LlamaForCausalLM", hidden_act="silu", attention_bias=bias, mlp_bias=mlp_bias)


def _qwen2(meta: Metadata) -> Config:
    return _llama_like(meta, "qwen2", "Qwen2ForCausalLM", hidden_act="silu", use_sliding_window=False)


def _qwen3(meta: Metadata) -> Config:
    return _llama_like(
        meta, "qwen3", "Qwen3ForCausalLM", hidden_act="silu", use_sliding_window=False, attention_bias=False
    )


def _phi3(meta: Metadata) -> Config:
    window = meta.integer("{}.attention.sliding_window", 0) or None
    return _llama_like(meta, "phi3", "Phi3ForCausalLM", hidden_act="silu", sliding_window=window)


def _gemma2(meta: Metadata) -> Config:
    return _gemma(
        meta,
        "gemma2",
        "Gemma2ForCausalLM",
        attn_logit_softcapping=meta.number("{}.attn_logit_softcapping", 50.0),
        final_logit_softcapping=meta.number("{}.final_logit_softcapping", 30.0),
    )


def _gemma3(meta: Metadata) -> Config:
    pattern = meta.get("{}.attention.sliding_window_pattern")
    config = _gemma(
        meta,
        "gemma3_text",
        "Gemma3ForCausalLM",
        rope_local_base_freq=meta.number("{}.rope.freq_base_swa", 10_000.0),
        sliding_window_pattern=pattern if type(pattern) is int else 6,
        final_logit_softcapping=meta.number("{}.final_logit_softcapping", 0.0) or None,
    )
    if isinstance(pattern, tuple):
        config["layer_types"] = ["sliding_attention" if sliding else "full_attention" for sliding in pattern]
    if meta.get("{}.rope.freq_base") is None:
        config["rope_theta"] = 1e6
    return config


_LARGEST_GEMMAS = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models: GGUF does not say that their queries are scaled by another width than the heads'."""


def _gemma(meta: Metadata, model_type: str, head: str, **more: Any) -> Config:
    window = meta.integer("{}.attention.sliding_window")
    config = _llama_like(meta, model_type, head, hidden_activation="gelu_pytorch_tanh", sliding_window=window, **more)
    largest = config["num_hidden_layers"] == _LARGEST_GEMMAS[meta.architecture]
    scalar = config["hidden_size"] / config["num_attention_heads"] if largest else config["head_dim"]
    return config | {"query_pre_attn_scalar": scalar}


def _gpt2(meta: Metadata) -> Config:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": _vocab_size(meta),
        "n_embd": meta.integer("{}.embedding_length"),
        "n_layer": meta.integer("{}.block_count"),
        "n_head": meta.integer("{}.attention.head_count"),
        "n_positions": meta.integer("{}.context_length"),
        "n_inner": meta.integer("{}.feed_forward_length"),
        "layer_norm_epsilon": meta.number("{}.attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": not meta.has("output.weight"),
    }


def _falcon(meta: Metadata) -> Config:
    heads, kv_heads = meta.integer("{}.attention.head_count"), meta.integer("{}.attention.head_count_kv", 1)
    two_norms = meta.has("blk.0.attn_norm_2.weight")
    # One norm and several key heads: Falcon 11B, whose GGUF is told from the older blocks by nothing else.
    return {
        "model_type": "falcon",
        "architectures": ["FalconForCausalLM"],
        "vocab_size": _vocab_size(meta),
        "hidden_size": meta.integer("{}.embedding_length"),
        "num_hidden_layers": meta.integer("{}.block_count"),
        "num_attention_heads": heads,
        "num_kv_heads": kv_heads,
        "multi_query": True,
        "new_decoder_architecture": kv_heads > 1 or two_norms,
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
        "parallel_attn": True,
        "alibi": False,
        "bias": meta.has("blk.0.attn_qkv.bias"),
        "ffn_hidden_size": meta.integer("{}.feed_forward_length"),
        "max_position_embeddings": meta.integer("{}.context_length"),
        "layer_norm_epsilon": meta.number("{}.attention.layer_norm_epsilon"),
        "rope_theta": meta.number("{}.rope.freq_base", 10_000.0),
        "activation": "gelu",
        "tie_word_embeddings": not meta.has("output.weight"),
    }


_READERS: Mapping[str, Callable[[Metadata], Config]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
    "falcon": _falcon,
}
