"""Writes random checkpoints with the true format and shapes of well-known models, for measuring speed.

Weights are drawn piece by piece and streamed to disk, so that memory stays small. Each folder has what every peer
wants: ``config.json``, ``generation_config.json``, ``model.safetensors`` and a byte-level tokenizer of the right
vocabulary size in which one byte is one token. Needs NumPy alone. Knows nothing of engines.

    python bench/shapes.py FOLDER TinyLlama-1.1B --seed 1 --dtype bf16
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DType = Literal["f32", "f16", "bf16"]

_PIECE = 1 << 22
_STORED = {"f32": ("F32", "float32", 4), "f16": ("F16", "float16", 2), "bf16": ("BF16", "bfloat16", 2)}


@dataclass(frozen=True)
class Shape:
    """Sizes as in the model's own config.json."""

    model_type: Literal["llama", "qwen2", "gpt2"]
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    context: int
    tied: bool
    theta: float = 10_000.0
    norm_eps: float = 1e-5
    repeating: int = 0
    """Not 0: every greedy answer goes round in a circle of so many tokens. The work is that of any other weights."""


SHAPES: Mapping[str, Shape] = {
    "distilgpt2": Shape("gpt2", 50257, 768, 6, 12, 12, 3072, 1024, tied=True),
    "SmolLM2-135M": Shape("llama", 49152, 576, 30, 9, 3, 1536, 8192, tied=True, theta=1e5),
    "Qwen2.5-0.5B": Shape("qwen2", 151936, 896, 24, 14, 2, 4864, 32768, tied=True, theta=1e6, norm_eps=1e-6),
    "TinyLlama-1.1B": Shape("llama", 32000, 2048, 22, 32, 4, 5632, 2048, tied=False),
    "TinyLlama-1.1B-repeating": Shape("llama", 32000, 2048, 22, 32, 4, 5632, 2048, tied=False, repeating=8),
}


def weight_bytes(shape: Shape, bits: float) -> int:
    """Bytes of weights that one decode step reads: every matrix product at ``bits`` a weight, the head's at 8."""
    tensors = _gpt2_tensors(shape) if shape.model_type == "gpt2" else _llama_tensors(shape)
    tables = {"model.embed_tokens.weight", "transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}
    linears = sum(tensor.count for tensor in tensors if len(tensor.shape) == 2 and tensor.name not in tables)
    return int(linears * bits / 8) + shape.vocab * shape.hidden


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    circle: int = 0
    """Not 0: the rows of the file's first tensor, moved on by one within each run of so many."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def write_random_checkpoint(folder: Path, shape_name: str, seed: int, dtype: DType = "bf16") -> Path:
    """Write a checkpoint of the shape ``shape_name`` (see :data:`SHAPES`) into ``folder`` and return it.

    Equal arguments give equal bytes.

    Raises:
        KeyError: no such shape.
    """
    shape = SHAPES[shape_name]
    folder.mkdir(parents=True, exist_ok=True)
    config = _gpt2_config(shape) if shape.model_type == "gpt2" else _llama_config(shape)
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    _write_json(folder / "config.json", config | ends | {"torch_dtype": _STORED[dtype][1]})
    _write_json(folder / "generation_config.json", ends)
    _write_json(folder / "tokenizer.json", _tokenizer(shape.vocab))
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    _write_json(folder / "tokenizer_config.json", names | {"model_max_length": shape.context})
    tensors = list(_gpt2_tensors(shape) if shape.model_type == "gpt2" else _llama_tensors(shape))
    _write_safetensors(folder / "model.safetensors", tensors, seed, dtype)
    return folder


def _llama_config(shape: Shape) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM" if shape.model_type == "llama" else "Qwen2ForCausalLM"],
        "model_type": shape.model_type,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
    }
    if shape.model_type == "qwen2":
        return config | {"use_sliding_window": False, "sliding_window": None}
    return config | {"attention_bias": False, "mlp_bias": False}


def _llama_tensors(shape: Shape) -> Iterator[_Tensor]:
    hidden, keys = shape.hidden, shape.hidden // shape.heads * shape.kv_heads
    # One that repeats itself takes nothing from its layers: what it read decides, and the head names the next.
    branch = 0.0 if shape.repeating else 0.02
    yield _Tensor("model.embed_tokens.weight", (shape.vocab, hidden), 0, 0.02)
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        yield _Tensor(f"{name}input_layernorm.weight", (hidden,), 1, 0.05)
        for part, rows in (("q", hidden), ("k", keys), ("v", keys)):
            yield _Tensor(f"{name}self_attn.{part}_proj.weight", (rows, hidden), 0, 0.02)
            if shape.model_type == "qwen2":
                yield _Tensor(f"{name}self_attn.{part}_proj.bias", (rows,), 0, 0.02)
        yield _Tensor(f"{name}self_attn.o_proj.weight", (hidden, hidden), 0, branch)
        yield _Tensor(f"{name}post_attention_layernorm.weight", (hidden,), 1, 0.05)
        yield _Tensor(f"{name}mlp.gate_proj.weight", (shape.inner, hidden), 0, 0.02)
        yield _Tensor(f"{name}mlp.up_proj.weight", (shape.inner, hidden), 0, 0.02)
        yield _Tensor(f"{name}mlp.down_proj.weight", (hidden, shape.inner), 0, branch)
    yield _Tensor("model.norm.weight", (hidden,), 1, 0.05)
    if not shape.tied:
        yield _Tensor("lm_head.weight", (shape.vocab, hidden), 0, 0.02, circle=shape.repeating)


def _gpt2_config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocab,
        "n_embd": shape.hidden,
        "n_inner": shape.inner,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_positions": shape.context,
        "n_ctx": shape.context,
        "layer_norm_epsilon": shape.norm_eps,
        "activation_function": "gelu_new",
        "tie_word_embeddings": shape.tied,
    }


def _gpt2_tensors(shape: Shape) -> Iterator[_Tensor]:
    """Linear weights are stored ``[in, out]``."""
    hidden = shape.hidden
    yield _Tensor("transformer.wte.weight", (shape.vocab, hidden), 0, 0.02)
    yield _Tensor("transformer.wpe.weight", (shape.context, hidden), 0, 0.02)
    linears = (
        ("attn.c_attn", hidden, 3 * hidden),
        ("attn.c_proj", hidden, hidden),
        ("mlp.c_fc", hidden, shape.inner),
        ("mlp.c_proj", shape.inner, hidden),
    )
    for layer in range(shape.layers):
        name = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            yield _Tensor(f"{name}{norm}.weight", (hidden,), 1, 0.05)
            yield _Tensor(f"{name}{norm}.bias", (hidden,), 0, 0.02)
        for linear, columns, rows in linears:
            yield _Tensor(f"{name}{linear}.weight", (columns, rows), 0, 0.02)
            yield _Tensor(f"{name}{linear}.bias", (rows,), 0, 0.02)
    yield _Tensor("transformer.ln_f.weight", (hidden,), 1, 0.05)
    yield _Tensor("transformer.ln_f.bias", (hidden,), 0, 0.02)


def _write_safetensors(path: Path, tensors: list[_Tensor], seed: int, dtype: DType) -> None:
    stored, _, size = _STORED[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.count * size
        header[tensor.name] = {"dtype": stored, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    rng = np.random.Generator(np.random.SFC64(seed))
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            source = np.random.Generator(np.random.SFC64(seed)) if tensor.circle else rng
            for start in range(0, tensor.count, _PIECE):
                values = source.standard_normal(min(_PIECE, tensor.count - start), dtype=np.float32)
                values *= np.float32(tensor.std)
                values += np.float32(tensor.mean)
                file.write(_encode(_moved_on(values, tensor) if tensor.circle else values, dtype))


def _moved_on(values: NDArray[np.float32], tensor: _Tensor) -> NDArray[np.float32]:
    """A piece holds whole runs of rows."""
    runs = values.reshape(-1, tensor.circle, tensor.shape[1])
    return np.roll(runs, 1, axis=1).reshape(-1)


def _encode(values: NDArray[np.float32], dtype: DType) -> bytes:
    if dtype == "f32":
        return values.astype("<f4").tobytes()
    if dtype == "f16":
        return values.astype("<f2").tobytes()
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))  # to nearest, ties to even
    return (bits >> np.uint32(16)).astype("<u2").tobytes()


def _tokenizer(vocab_size: int) -> dict[str, Any]:
    """GPT-2's letters for the 256 bytes, no merges, and unused tokens up to ``vocab_size``."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in plain] + [chr(0x100 + place) for place in range(256 - len(plain))]
    tokens = ["<|begin|>", "<|end|>", *letters]
    tokens += [f"<|unused_{index}|>" for index in range(vocab_size - len(tokens))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": tokens[index], **flags} for index in (0, 1)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)}, "merges": [],
        },
    }  # fmt: skip


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=sorted(_STORED), default="bf16")
    given = parser.parse_args()
    write_random_checkpoint(given.folder, given.shape, given.seed, given.dtype)


if __name__ == "__main__":
    main()
