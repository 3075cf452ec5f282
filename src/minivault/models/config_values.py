"""Reads single values of a ``config.json`` within their bounds, and words the refusals.

Knows nothing of families. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.json_file import shown

Config = Mapping[str, Any]
"""A parsed ``config.json`` or an object inside it."""


def unsupported(found: str, wanted: str) -> UnsupportedCheckpoint:
    """The refusal that says what was found, what is supported and which engine may be able to run it."""
    return UnsupportedCheckpoint(
        f"The native engine cannot run this checkpoint: found {found}; supported: {wanted}. "
        "The `transformers` engine may be able to run it"
    )


def corrupt(message: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(f"config.json: {message}")


def named(value: object) -> str:
    """A value in a message: text in quotes, true and false as they are, of anything else the type alone."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(shown(value)) if isinstance(value, str) else f"of type {type(value).__name__}"


def require(config: Config, name: str, wanted: object, default: object) -> None:
    """Refuse any value of ``name`` but ``wanted``; null and absent mean ``default``.

    Raises:
        UnsupportedCheckpoint: it has another value.
    """
    found = config.get(name)
    found = default if found is None else found
    if found != wanted:
        raise unsupported(f"{name} {named(found)}", wanted=f"{name} {wanted}".lower())


def refuse(config: Config, *names: str) -> None:
    """Refuse options that are set to anything but null, false, or an empty list or object.

    Raises:
        UnsupportedCheckpoint: one of them is set.
    """
    for name in names:
        if config.get(name) not in (None, False, [], {}):
            raise unsupported(f"the option {name}", wanted=f"checkpoints without {name}")


def section(config: Config, name: str) -> Config:
    """An object inside the config; absent and null are empty."""
    found = config.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise corrupt(f"{name} must be an object")
    return found


def integer(config: Config, name: str, most: int, default: int | None = None) -> int:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= most:
        raise corrupt(f"{name} must be an integer from 1 to {most}")
    return found


def number(config: Config, name: str, least: float, most: float, default: float | None = None) -> float:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, int | float) or isinstance(found, bool) or not least <= found <= most:
        raise corrupt(f"{name} must be a number from {least:g} to {most:g}")
    return float(found)


def flag(config: Config, name: str, default: bool) -> bool:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, bool):
        raise corrupt(f"{name} must be true or false")
    return found


def gelu(config: Config, name: str, default: str) -> Literal["gelu", "gelu_tanh"]:
    """Which GELU the activation called ``name`` is: ``gelu`` (exact) or ``gelu_tanh``, which has several names.

    Raises:
        UnsupportedCheckpoint: it is another function.
    """
    found = config.get(name)
    found = default if found is None else found
    if found == "gelu":
        return "gelu"
    if found in ("gelu_new", "gelu_pytorch_tanh"):
        return "gelu_tanh"
    raise unsupported(f"{name} {named(found)}", wanted="gelu, gelu_new, gelu_pytorch_tanh")
