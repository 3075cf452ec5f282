"""Reads a Hugging Face ``config.json`` into one small description from which the forward pass follows completely.

What the description cannot say is refused by name rather than ignored: a checkpoint runs as its makers meant it, or not
at all. Standard library only; knows nothing of files, weights, arrays or engines. What differs between families lies in
``families``, the description itself in ``description``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minivault.models.config_values import Config, corrupt, section, unsupported
from minivault.models.description import Architecture, Rope, RopeScaling
from minivault.models.families import BY_MODEL_TYPE, Family
from minivault.models.json_file import shown

__all__ = ["Architecture", "Rope", "RopeScaling", "read_architecture"]


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The description of the checkpoint that ``config`` (a parsed ``config.json``) belongs to.

    Raises:
        UnsupportedCheckpoint: sound, but of an architecture or with an option that the native engine does not have.
        CheckpointCorrupt: a value is missing, of the wrong type, out of bounds, or contradicts another.
    """
    model_type = config.get("model_type")
    family = BY_MODEL_TYPE.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        found = f"model_type {shown(model_type)!r}" if isinstance(model_type, str) else "no model_type"
        raise unsupported(found, wanted="model_type " + ", ".join(sorted(BY_MODEL_TYPE)))
    _refuse_foreign_heads(config, family)
    if config.get("quantization_config") is not None:
        method = section(config, "quantization_config").get("quant_method")
        name = shown(method) if isinstance(method, str) else "unknown"
        raise unsupported(f"weights quantised with {name!r}", wanted="F32, F16 or BF16 weights")
    return family.readers[str(model_type)](config)


def _refuse_foreign_heads(config: Config, family: Family) -> None:
    """Only causal language models: a classifier's checkpoint has other tensors under the same model_type."""
    names = config.get("architectures")
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise corrupt("architectures must be a list of names")
    if names and not any(name.endswith(family.heads) for name in names):
        raise unsupported(f"architectures {shown(', '.join(names))}", wanted="a causal language model")
