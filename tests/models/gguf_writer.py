"""Writes tiny checkpoints as GGUF files, with the ``gguf`` package, as llama.cpp's converter would.

Written from what that converter does, not from how MiniVault reads it. K-quants, which the package only reads, are made
of random blocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from minivault.models.architecture import Architecture, read_architecture

Array = NDArray[Any]
Kind = gguf.GGMLQuantizationType

_LLAMA = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
}  # fmt: skip
_GEMMA = _LLAMA | {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
_GPT2 = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip
_FALCON = {
    "input_layernorm": "attn_norm", "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
}  # fmt: skip
_LAYER = {"gemma2": _GEMMA, "gemma3": _GEMMA, "gpt2": _GPT2, "falcon": _FALCON}
_WHOLE = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "transformer.word_embeddings": "token_embd",
}  # fmt: skip


def read_tensors(folder: Path) -> dict[str, Array]:
    """Every tensor in 32 bits."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            raw = np.frombuffer(data[8 + size :][slice(*entry["data_offsets"])], dtype=np.uint8)
            if entry["dtype"] == "BF16":
                values = (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
            else:
                values = raw.view({"F16": np.float16, "F32": np.float32}[entry["dtype"]]).astype(np.float32)
            found[name] = values.reshape(entry["shape"])
    return found


def write_gguf(
    folder: Path,
    target: Path,
    kind: Kind = Kind.F32,
    *,
    blocks: Mapping[str, Array] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """``folder`` as a GGUF file, its matrices in ``kind``. ``blocks``: of some tensors, by their names here, the bytes
    in that kind, instead of their values. ``metadata``: further text keys."""
    config = json.loads((folder / "config.json").read_text())
    arch = read_architecture(config)
    family = arch.family
    writer = gguf.GGUFWriter(target, family)
    _describe(writer, arch, config)
    _add_tokenizer(writer, folder)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value)
    for name, values in read_tensors(folder).items():
        ours = gguf_name(name, family)
        if blocks is not None and ours in blocks:
            writer.add_tensor(ours, blocks[ours], raw_dtype=kind)
            continue
        laid_out = _laid_out(name, values, arch)
        if laid_out.ndim == 1 or "wpe" in name:
            writer.add_tensor(ours, laid_out)
        elif kind in (Kind.F32, Kind.F16):
            writer.add_tensor(ours, laid_out.astype(np.float16 if kind == Kind.F16 else np.float32))
        else:
            writer.add_tensor(ours, gguf.quants.quantize(laid_out, kind), raw_dtype=kind)
    scaling = arch.ropes[0].scaling if arch.ropes else None
    if scaling is not None and scaling.kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_factors(arch))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def gguf_name(name: str, family: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` is ``blk.3.ffn_up.weight``."""
    stem, _, kind = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{kind}"
    layer, _, part = stem.split(".", 2)[2].partition(".")
    return f"blk.{layer}.{_LAYER.get(family, _LLAMA)[part]}.{kind}"


def _laid_out(name: str, values: Array, arch: Architecture) -> Array:
    if arch.family == "gpt2" and ".c_" in name and values.ndim == 2:
        return np.ascontiguousarray(values.T)
    if arch.family.startswith("gemma") and name.endswith("norm.weight"):
        return np.asarray(values + np.float32(1))
    if arch.family == "llama" and (".q_proj." in name or ".k_proj." in name):
        heads = arch.attention_heads if ".q_proj." in name else arch.kv_heads
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    if "query_key_value" in name:
        group = arch.attention_heads // arch.kv_heads
        fused = values.reshape(arch.kv_heads, group + 2, arch.head_dim, *values.shape[1:])
        parts = (fused[:, :-2], fused[:, [-2]], fused[:, [-1]])
        return np.concatenate([part.reshape(-1, *values.shape[1:]) for part in parts])
    return values


def _llama3_factors(arch: Architecture) -> Array:
    rope = arch.ropes[0]
    assert rope.scaling is not None
    low, high = (
        rope.scaling.original_context_length / factor
        for factor in (rope.scaling.low_freq_factor, rope.scaling.high_freq_factor)
    )
    found = []
    for frequency in rope.theta ** (-np.arange(0, arch.head_dim, 2, dtype=np.float32) / arch.head_dim):
        length = 2 * math.pi / frequency
        if length < high:
            found.append(1.0)
        elif length > low:
            found.append(rope.scaling.factor)
        else:
            smooth = (rope.scaling.original_context_length / length - 1.0) / (
                rope.scaling.high_freq_factor - rope.scaling.low_freq_factor
            )
            found.append(1 / ((1 - smooth) / rope.scaling.factor + smooth))
    return np.array(found, dtype=np.float32)


def _describe(writer: Any, arch: Architecture, config: Mapping[str, Any]) -> None:
    writer.add_name("tiny")
    writer.add_vocab_size(arch.vocab_size)
    writer.add_context_length(config.get("max_position_embeddings") or config.get("n_positions"))
    writer.add_embedding_length(arch.hidden_size)
    writer.add_feed_forward_length(arch.intermediate_size)
    writer.add_block_count(arch.layers)
    writer.add_head_count(arch.attention_heads)
    if arch.norm == "layer":
        writer.add_layer_norm_eps(arch.norm_eps)
    else:
        writer.add_layer_norm_rms_eps(arch.norm_eps)
    if arch.family != "gpt2":
        writer.add_head_count_kv(arch.kv_heads)
    if arch.ropes and arch.family != "falcon":
        _describe_rope(writer, arch)
    if arch.family not in ("gpt2", "falcon", "phi3"):
        writer.add_key_length(arch.head_dim)
        writer.add_value_length(arch.head_dim)
    if arch.family.startswith("gemma") or (arch.family == "phi3" and config.get("sliding_window")):
        writer.add_sliding_window(config["sliding_window"])
    if arch.family == "gemma2":
        writer.add_attn_logit_softcapping(arch.attention_softcap)
        writer.add_final_logit_softcapping(arch.logit_softcap)


def _describe_rope(writer: Any, arch: Architecture) -> None:
    rope = arch.ropes[0]
    writer.add_rope_dimension_count(arch.rotary_dim)
    writer.add_rope_freq_base(rope.theta)
    if rope.scaling is not None and rope.scaling.kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope.scaling.kind))
        writer.add_rope_scaling_factor(rope.scaling.factor)
        if rope.scaling.kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rope.scaling.original_context_length)
    if arch.family == "gemma3":
        writer.add_float32("gemma3.rope.freq_base_swa", arch.ropes[1].theta)
        windows = [window is not None for window in arch.layer_windows]
        writer.add_array("gemma3.attention.sliding_window_pattern", windows)


def _add_tokenizer(writer: Any, folder: Path) -> None:
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    vocabulary, merges = stored["model"]["vocab"], stored["model"]["merges"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    control = {token["content"] for token in stored["added_tokens"]}
    sentencepiece = stored["model"]["byte_fallback"]
    kinds = [_token_type(token, control, sentencepiece) for token in tokens]
    writer.add_tokenizer_model("llama" if sentencepiece else "gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if sentencepiece:
        # A piece that is put together later has a lower score.
        rank = {left + right: -float(place) for place, (left, right) in enumerate(merges, 1)}
        writer.add_token_scores([rank.get(token, 0.0) for token in tokens])
    else:
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges([" ".join(merge) for merge in merges])
    for name, add in (("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id)):
        if config.get(name):
            add(vocabulary[config[name]])
    if sentencepiece:
        writer.add_unk_token_id(0)
    writer.add_add_bos_token(stored["post_processor"] is not None)
    template = folder / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text())


def _token_type(token: str, control: set[str], sentencepiece: bool) -> gguf.TokenType:
    if token == "<unk>":
        return gguf.TokenType.UNKNOWN
    if token in control:
        return gguf.TokenType.CONTROL
    if sentencepiece and token.startswith("<0x"):
        return gguf.TokenType.BYTE
    return gguf.TokenType.NORMAL


def random_blocks(kind: Kind, shape: tuple[int, ...], seed: int) -> Array:
    """Bytes of a tensor in ``kind``: any quants and small scales, whose values are about as large as weights are."""
    rng = np.random.default_rng(seed)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = math.prod(shape) // elements
    blocks = rng.integers(0, 256, size=(count, size), dtype=np.uint8)
    scales = {Kind.Q2_K: (80, 82), Kind.Q3_K: (108,), Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}
    for place in scales[kind]:
        drawn = rng.uniform(0.5, 1.5, size=(count, 1)) * _SCALES[kind]
        blocks[:, place : place + 2] = drawn.astype("<f2").view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)


_SCALES = {Kind.Q2_K: 4e-3, Kind.Q3_K: 2e-3, Kind.Q4_K: 4e-4, Kind.Q5_K: 2e-4, Kind.Q6_K: 5e-5}
