"""Folders that only the Transformers engine runs: what can be known of them without PyTorch, and what is refused.

Reads headers and small files. Knows nothing of what the tensors are for.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import UnsupportedCheckpoint
from minivault.models.chat_template import ChatTemplate
from minivault.models.checkpoint import Checkpoint
from minivault.models.json_file import read_json_object
from minivault.models.tokenizer import Tokenizer

EXTRA = "pip install 'minivault[transformers]'"
_HEADS = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A folder that was found sound."""

    family: str
    """``model_type`` of its config.json."""
    parameters: int
    """Numbers in all tensors; those that a checkpoint stores twice count twice."""


def is_transformers_installed() -> bool:
    """Whether the optional extra is there. Imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def family_of(config: Mapping[str, Any]) -> str:
    """``model_type`` of a ``config.json`` that the Transformers engine may run.

    Raises:
        UnsupportedCheckpoint: no causal language model, or one that needs packages of others.
    """
    family, heads = config.get("model_type"), config.get("architectures")
    named = [head for head in heads if isinstance(head, str)] if isinstance(heads, list) else []
    if not isinstance(family, str) or not any(head.endswith(_HEADS) for head in named):
        raise UnsupportedCheckpoint("config.json names no causal language model, which is what the engines here run")
    if config.get("quantization_config") is not None:
        raise UnsupportedCheckpoint("Quantised weights are not supported: take the checkpoint in F32, F16 or BF16")
    return family


def inspect_foreign(folder: Path) -> Foreign:
    """What ``folder`` holds, for the Transformers engine.

    Raises:
        UnsupportedCheckpoint: it is not for that engine.
        CheckpointCorrupt: the files are not sound.
    """
    family = family_of(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        parameters = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    tokenizer = Tokenizer.load(folder)
    ChatTemplate.load(folder, tokenizer.special_tokens)
    return Foreign(family, parameters)
