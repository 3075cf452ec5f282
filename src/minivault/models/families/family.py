"""What a family of architectures is to the reader: how its config is read and how its tensors are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minivault.models.config_values import Config
from minivault.models.description import Architecture
from minivault.models.tensor_finder import Named, TensorFinder

CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel", "Model")


@dataclass(frozen=True, slots=True)
class Family:
    """The readers are keyed by ``model_type``; one naming of tensors serves all of them."""

    readers: Mapping[str, Callable[[Config], Architecture]]
    tensors: Callable[[Architecture, TensorFinder], Named]
    """Canonical names and sources; not the output head, which all families store alike."""
    prefixes: Mapping[str, str]
    """What stands before the names, and then the output head's name. Old files have neither: that is known here."""
    ignored_suffixes: tuple[str, ...] = ()
    """Buffers of old files that follow from the config."""
    ignored_prefixes: tuple[str, ...] = ()
    """Parts beside the language model."""
    heads: tuple[str, ...] = CAUSAL_HEADS
    """How the names in ``architectures`` end that are language models."""
