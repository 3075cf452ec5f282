"""Which tensor of a GGUF file becomes which tensor of a checkpoint, and what is undone on the way.

llama.cpp's converter reorders rows (Llama's rotary pairs, Falcon's fused heads), adds 1 to Gemma's norms and transposes
GPT-2's matrices. Pure functions over names and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.description import MAX_ATTENTION_HEADS, MAX_HEAD_DIM
from minivault.models.json_file import shown

_LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA = _LLAMA | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_FALCON = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attention.query_key_value",
    "attn_output": "self_attention.dense",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_FALCON_TWO_NORMS = _FALCON | {"attn_norm": "ln_mlp", "attn_norm_2": "ln_attn"}
_MODEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_GPT2_MODEL = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_FALCON_MODEL = {"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"}

_LAYERS: Mapping[str, tuple[Mapping[str, str], str, Mapping[str, str]]] = {
    "llama": (_MODEL, "model.layers.", _LLAMA),
    "qwen2": (_MODEL, "model.layers.", _LLAMA),
    "qwen3": (_MODEL, "model.layers.", _LLAMA),
    "phi3": (_MODEL, "model.layers.", _LLAMA | {"ffn_up": "mlp.gate_up_proj"}),
    "gemma2": (_MODEL, "model.layers.", _GEMMA),
    "gemma3": (_MODEL, "model.layers.", _GEMMA),
    "gpt2": (_GPT2_MODEL, "transformer.h.", _GPT2),
    "falcon": (_FALCON_MODEL, "transformer.h.", _FALCON),
}

_IGNORED = ("rope_freqs.weight",)
_BLOCK = re.compile(r"blk\.(\d{1,5})\.([a-z0-9_]+)\.(weight|bias)")
_WHOLE = re.compile(r"([a-z0-9_]+)\.(weight|bias)")


_MOST_ROWS = 3 * MAX_ATTENTION_HEADS * MAX_HEAD_DIM

Rows: TypeAlias = Callable[[], tuple[int, ...]]
"""Numbers of rows, made when they are needed: a plan has one for each tensor."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How one tensor is made."""

    source: str
    target: str
    rows: Rows | None = None
    """The source's row for each row of the target; ``None``: in the same order."""
    transposed: bool = False
    added: float = 0.0


def conversions(
    architecture: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Conversion]:
    """One for each tensor of the file that a checkpoint of ``config`` has.

    Raises:
        UnsupportedCheckpoint: a tensor that the family does not have.
        CheckpointCorrupt: a shape that cannot be.
    """
    model, prefix, layer = _LAYERS[architecture]
    if "blk.0.attn_norm_2.weight" in shapes:
        layer = _FALCON_TWO_NORMS
    for source, shape in shapes.items():
        if source in _IGNORED:
            continue
        found, whole = _BLOCK.fullmatch(source), _WHOLE.fullmatch(source)
        if found is not None and found[2] in layer:
            target = f"{prefix}{int(found[1])}.{layer[found[2]]}.{found[3]}"
        elif whole is not None and whole[1] in model:
            target = f"{model[whole[1]]}.{whole[2]}"
        else:
            raise UnsupportedCheckpoint(f"The GGUF file has the tensor {shown(source)}, which its family does not have")
        part = found[2] if found is not None else ""
        yield Conversion(
            source,
            target,
            rows=_rows(architecture, config, part, shape[0]),
            transposed=architecture == "gpt2" and bool(part) and len(shape) == 2,
            added=-1.0 if architecture.startswith("gemma") and source.endswith("norm.weight") else 0.0,
        )


def _rows(architecture: str, config: Mapping[str, Any], part: str, rows: int) -> Rows | None:
    if architecture == "llama" and part in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        if heads < 1 or rows > _MOST_ROWS or rows % (2 * heads):
            raise CheckpointCorrupt("The GGUF file's queries or keys do not divide into its heads")
        return partial(_half_apart, rows, heads)
    if architecture == "falcon" and part == "attn_qkv":
        heads, kv_heads = config["num_attention_heads"], config["num_kv_heads"]
        if min(heads, kv_heads) < 1 or heads % kv_heads or rows > _MOST_ROWS or rows % (heads + 2 * kv_heads):
            raise CheckpointCorrupt("The GGUF file's fused attention does not divide into its heads")
        return partial(_by_key_head, rows, heads, kv_heads)
    return None


def _half_apart(rows: int, heads: int) -> tuple[int, ...]:
    """The file has a head's rotary pairs side by side, a checkpoint half a head apart."""
    size = rows // heads
    return tuple(head * size + 2 * (place % (size // 2)) + place // (size // 2)
                 for head in range(heads) for place in range(size))  # fmt: skip


def _by_key_head(rows: int, heads: int, kv_heads: int) -> tuple[int, ...]:
    """The file has all queries, all keys, all values; a checkpoint, for each key head, its queries, key and value."""
    size, group = rows // (heads + 2 * kv_heads), heads // kv_heads
    found: list[int] = []
    for kv_head in range(kv_heads):
        for head in (*range(kv_head * group, (kv_head + 1) * group), heads + kv_head, heads + kv_heads + kv_head):
            found.extend(range(head * size, (head + 1) * size))
    return tuple(found)


def target_shape(conversion: Conversion, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the tensor has in the checkpoint."""
    return tuple(reversed(shape)) if conversion.transposed else shape
