"""The names of models and of their adapters, ``BASE:NAME``. Knows nothing of which there are."""

from __future__ import annotations

import re
from pathlib import Path

from minivault.errors import InvalidRequest

MAX_NAME = 100
ADAPTER_MARK = ":"
RESERVED = ("latest",)
"""No adapter is called so: clients of Ollama's API mean the base by ``BASE:latest``."""

LATEST = f"{ADAPTER_MARK}{RESERVED[0]}"

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def untagged(name: str) -> str:
    """The catalog's name of what others tag: it has no tags, so ``latest`` is the only one that there is."""
    return name.removesuffix(LATEST) or name


def adapter_of(name: str) -> str | None:
    """The adapter that a model's name asks for; ``None``: the model as it is."""
    return name.partition(ADAPTER_MARK)[2] if ADAPTER_MARK in name else None


def base_of(name: str) -> str:
    """The model that a name asks for, without its adapter."""
    return name.partition(ADAPTER_MARK)[0]


def is_name(name: str) -> bool:
    """Whether a model, or an adapter of one, can be called so."""
    adapter = adapter_of(name)
    return bool(NAME.fullmatch(base_of(name))) and (adapter is None or bool(NAME.fullmatch(adapter)))


def check_name(name: str) -> str:
    """``name``, if a model can be called so.

    Raises:
        InvalidRequest: it cannot.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"name must be 1 to {MAX_NAME} of a-z, 0-9, '.', '_' and '-', starting with a letter or digit", param="name"
        )
    return name


def default_name(source: Path) -> str:
    """A name after the folder; within the hub's cache, after the repository; of a file, without ``.gguf``."""
    folder = source.resolve()
    if folder.parent.name == "snapshots":
        folder = folder.parent.parent
    base = folder.name.lower().rpartition("--")[2].removesuffix(".gguf")
    return re.sub(r"[^a-z0-9._-]+", "-", base).strip("._-")[:MAX_NAME] or "model"
