"""Writes the guide as a Hugging Face checkpoint folder: config, tokenizer files and bf16 safetensors.

Knows file formats. Knows nothing of the corpus, of training or of how the folder is served.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from model import Guide, GuideShape
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokens import CHAT_TEMPLATE, END_OF_TEXT, MESSAGE_END, MESSAGE_START, SPECIAL_TOKENS


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config(shape: GuideShape, tokenizer: Tokenizer) -> dict[str, Any]:
    """The `config.json` of a LlamaForCausalLM of this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention_heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": shape.rms_norm_eps,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id(MESSAGE_END),
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "use_cache": True,
        "torch_dtype": "bfloat16",
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Sampling defaults that suit a small model: nearly greedy."""
    return {
        "do_sample": True,
        "temperature": 0.2,
        "top_k": 20,
        "top_p": 0.9,
        "eos_token_id": [tokenizer.token_to_id(MESSAGE_END), tokenizer.token_to_id(END_OF_TEXT)],
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
    }


def tokenizer_config(shape: GuideShape, tokenizer: Tokenizer) -> dict[str, Any]:
    """The `tokenizer_config.json` with the chat template; no beginning-of-sequence token is ever added."""
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {
                "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                "special": True,
            }
            for token in SPECIAL_TOKENS
        },
        "additional_special_tokens": [MESSAGE_START],
        "bos_token": None,
        "eos_token": MESSAGE_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }  # fmt: skip


def export_tokenizer(folder: Path, tokenizer: Tokenizer, shape: GuideShape) -> None:
    """Everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", config(shape, tokenizer))
    _write_json(folder / "generation_config.json", generation_config(tokenizer))
    _write_json(folder / "tokenizer_config.json", tokenizer_config(shape, tokenizer))
    _write_json(
        folder / "special_tokens_map.json",
        {"additional_special_tokens": [MESSAGE_START], "eos_token": MESSAGE_END, "pad_token": END_OF_TEXT},
    )


def export_weights(folder: Path, guide: Guide) -> None:
    """`model.safetensors` in bf16 with Hugging Face names; written aside and renamed, so it is never half there."""
    tensors = {
        f"model.{name}": value.detach().to(torch.bfloat16).contiguous().clone()
        for name, value in guide.state_dict().items()
    }
    aside = folder / "model.safetensors.partial"
    save_file(tensors, str(aside), metadata={"format": "pt"})
    aside.chmod(0o644)
    aside.replace(folder / "model.safetensors")


def load_weights(folder: Path, guide: Guide) -> None:
    """Read the folder's weights back into a network of the same shape."""
    from safetensors.torch import load_file

    tensors = load_file(str(folder / "model.safetensors"))
    guide.load_state_dict({name.removeprefix("model."): value.float() for name, value in tensors.items()})
