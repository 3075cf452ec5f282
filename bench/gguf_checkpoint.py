"""Turns a checkpoint of :mod:`bench.shapes` into GGUF, with NumPy and the ``gguf`` package alone.

All matrices get the one quantisation, embeddings and head too; vectors stay in 32 bits.

    python -m bench.gguf_checkpoint FOLDER FILE.gguf Q8_0
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found,unused-ignore]
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def read_safetensors(path: Path) -> Iterator[tuple[str, Array]]:
    """Each tensor in 32 bits."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        raw = data[start:end]
        if entry["dtype"] == "BF16":
            values = (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = raw.view(np.float16 if entry["dtype"] == "F16" else np.float32).astype(np.float32)
        yield name, values.reshape(entry["shape"])


def gguf_name(name: str, model_type: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` is ``blk.3.ffn_up.weight``."""
    table = _GPT2 if model_type == "gpt2" else _LLAMA
    stem, _, kind = name.rpartition(".")
    if stem in table:
        return f"{table[stem]}.{kind}"
    layer, _, part = stem.split(".", 2)[2].partition(".")
    return f"blk.{layer}.{table[part]}.{kind}"


def to_gguf_layout(name: str, values: Array, config: dict[str, Any]) -> Array:
    """GGUF stores ``[out, in]``, and the llama family's rotary pairs side by side rather than half a head apart."""
    if config["model_type"] == "gpt2" and ".c_" in name and values.ndim == 2:
        return np.ascontiguousarray(values.T)
    for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if config["model_type"] == "llama" and part in name:
            count = config[heads]
            pairs = values.reshape(count, 2, values.shape[0] // count // 2, -1)
            return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
    return values


def write_gguf(folder: Path, target: Path, quantisation: str) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = gguf.GGMLQuantizationType[quantisation]
    writer = gguf.GGUFWriter(target, config["model_type"])
    _describe(writer, config, quantisation)
    _add_tokenizer(writer, folder)
    for name, stored in read_safetensors(folder / "model.safetensors"):
        values = to_gguf_layout(name, stored, config)
        if values.ndim == 1 or name.startswith("transformer.wpe"):
            writer.add_tensor(gguf_name(name, config["model_type"]), values)
        else:
            blocks = gguf.quants.quantize(values, kind)
            writer.add_tensor(gguf_name(name, config["model_type"]), blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: dict[str, Any], quantisation: str) -> None:
    plain = config["model_type"] == "gpt2"
    heads = config["n_head" if plain else "num_attention_heads"]
    writer.add_name("random")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["n_positions" if plain else "max_position_embeddings"])
    writer.add_embedding_length(config["n_embd" if plain else "hidden_size"])
    writer.add_feed_forward_length(config["n_inner" if plain else "intermediate_size"])
    writer.add_block_count(config["n_layer" if plain else "num_hidden_layers"])
    writer.add_head_count(heads)
    if plain:
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantisation}"])


def _add_tokenizer(writer: Any, folder: Path) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    tokens = [_whole(token) for token in sorted(vocabulary, key=vocabulary.__getitem__)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2)
    writer.add_token_types(kinds)
    writer.add_token_merges(["! !"])  # it wants one; prompts come as ids
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)


def _whole(token: str) -> str:
    """A token that is part of a character gets a text of its own: the server would hold it back, and its time."""
    return f"<|byte_{ord(token)}|>" if len(token) == 1 and ord(token) > ord("~") else token


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
