"""Reads which layers of a model see a window only. Knows no family."""

from __future__ import annotations

from collections.abc import Sequence

from minivault.models.config_values import Config, corrupt, integer, named, unsupported
from minivault.models.description import MAX_WINDOW

SLIDING, FULL = "sliding_attention", "full_attention"


def sliding_layers(config: Config, layers: int, default: Sequence[bool]) -> tuple[bool, ...]:
    """Whether each layer has a window: ``layer_types`` (newer files), or ``default`` where it is absent.

    Raises:
        UnsupportedCheckpoint: another kind of layer.
        CheckpointCorrupt: not one kind for each layer.
    """
    kinds = config.get("layer_types")
    if kinds is None:
        return tuple(default)
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise corrupt(f"layer_types must be a list of {layers} kinds, one for each layer")
    for kind in kinds:
        if kind not in (SLIDING, FULL):
            raise unsupported(f"layer_types {named(kind)}", wanted=f"{FULL}, {SLIDING}")
    return tuple(kind == SLIDING for kind in kinds)


def layer_windows(
    config: Config, sliding: Sequence[bool], context: int, default: int | None = None
) -> tuple[int | None, ...]:
    """``sliding_window`` for the layers that have one; a window as long as the context is none.

    Raises:
        CheckpointCorrupt: a layer needs the window, and there is no valid one.
    """
    if not any(sliding):
        return (None,) * len(sliding)
    window = integer(config, "sliding_window", MAX_WINDOW, default=default)
    return tuple(window if slides and window < context else None for slides in sliding)
