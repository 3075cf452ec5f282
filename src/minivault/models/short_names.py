"""What models are called on the model hub: ``ORG/NAME[@REVISION]``, and short names for those that people start with.

Pure functions over text. Knows nothing of networks or of the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minivault.errors import InvalidRequest
from minivault.nearest import nearest

SHORT_NAMES: Mapping[str, str] = {
    "distilgpt2": "distilbert/distilgpt2",
    "gpt2": "openai-community/gpt2",
    "gpt-neo-1.3b": "EleutherAI/gpt-neo-1.3B",
    "tinyllama": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "mistral-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.3",
    "falcon-7b-instruct": "tiiuae/falcon-7b-instruct",
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-360m-instruct": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b-instruct": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "qwen2.5-0.5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b-instruct": "Qwen/Qwen2.5-3B-Instruct",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-3b-instruct": "meta-llama/Llama-3.2-3B-Instruct",
    "gemma-3-1b-it": "google/gemma-3-1b-it",
    "all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "bge-small-en-v1.5": "BAAI/bge-small-en-v1.5",
    "e5-small-v2": "intfloat/e5-small-v2",
}
"""Mistral's, Llama's and Gemma's repositories are gated: they want their terms accepted, and a token."""

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_REFERENCE = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository of the hub at a revision."""

    repository: str
    """``ORG/NAME``."""
    revision: str | None
    """Branch, tag or commit; ``None``: the main branch."""
    name: str
    """What the model is called here, unless told otherwise."""


def parse_reference(text: str) -> Reference:
    """``ORG/NAME``, ``ORG/NAME@REVISION``, or one of :data:`SHORT_NAMES`, which may have a revision too.

    Raises:
        InvalidRequest: it is none of these; names the closest short names.
    """
    short, _, revision = text.partition("@")
    full = SHORT_NAMES.get(short.lower())
    matched = _REFERENCE.fullmatch(text if full is None else f"{full}@{revision}" if revision else full)
    if matched is None or ".." in text or "--" in matched[1]:
        raise _not_a_reference(short)
    local = short.lower() if full is not None else _local_name(matched[1])
    return Reference(matched[1], matched[2], local)


def closest_short_name(name: str) -> str:
    """The short name that ``name`` may mean, or ``ORG/NAME``."""
    return next(iter(nearest(name.removesuffix(":latest"), SHORT_NAMES)), "ORG/NAME")


def did_you_mean(names: Sequence[str]) -> str:
    """``Did you mean a, b or c?``"""
    *others, last = names
    return f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def _local_name(repository: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", repository.partition("/")[2].lower()).strip("._-")[:100] or "model"


def _not_a_reference(text: str) -> InvalidRequest:
    closest = nearest(text, SHORT_NAMES)
    names = did_you_mean(closest) if closest else f"Short names are: {', '.join(SHORT_NAMES)}"
    return InvalidRequest(f"model must be ORG/NAME, ORG/NAME@REVISION or a short name. {names}", param="model")
