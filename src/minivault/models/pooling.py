"""How one vector for a text is made of those of its tokens, as a folder in the layout of sentence-transformers says.

``modules.json`` lists the steps, ``1_Pooling/config.json`` the kind, ``sentence_bert_config.json`` the longest text. In
the catalog, where a model has no folders in it, the second is called as :func:`stored_name` says. Knows nothing of
engines or of arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.folder import stored_name
from minivault.models.json_file import read_bounded, read_json_object, read_optional_json_object, shown

POOLING_FILE = "1_Pooling/config.json"
Kind = Literal["mean", "cls", "last", "max", "mean_sqrt_len"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_MODES: Mapping[str, Kind] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}
_STEPS = ("Transformer", "Pooling", "Normalize")
_MAX_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """What is done with the vectors of a text's tokens."""

    kind: Kind = "mean"
    normalized: bool = True
    """The vector is scaled to length 1."""
    max_tokens: int | None = None
    """Tokens of the longest text, special ones included; ``None``: the encoder's own bound."""
    lower_case: bool = False
    """Texts are made lower case before they become tokens."""

    @property
    def digest(self) -> str:
        """``sha256:...`` of what decides the vector; pinned in records."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def read_pooling(folder: Path) -> PoolingConfig:
    """What ``folder`` says; a folder that says nothing gets the mean, scaled to length 1.

    Raises:
        CheckpointCorrupt: a file is not sound.
        UnsupportedCheckpoint: it has a step or a kind that there is not here.
    """
    _refuse_prompts(read_optional_json_object(folder / "config_sentence_transformers.json"))
    said = read_optional_json_object(folder / "sentence_bert_config.json")
    max_tokens = said.get("max_seq_length")
    lower_case = said.get("do_lower_case", False)
    steps = _steps(folder)
    if steps is None:
        return _checked("mean", True, max_tokens, lower_case)
    kept = folder / stored_name(POOLING_FILE)
    pooling = read_json_object(kept if kept.is_file() else folder / POOLING_FILE)
    return _checked(_kind(pooling), "Normalize" in steps, max_tokens, lower_case)


def pooling_of(folder: Path) -> PoolingConfig | None:
    """As :func:`read_pooling`, for a model that answers: one whose pooling is not for here does not embed."""
    try:
        return read_pooling(folder)
    except UnsupportedCheckpoint:
        return None


def _checked(kind: Any, normalized: Any, max_tokens: Any, lower_case: Any) -> PoolingConfig:
    if kind not in KINDS or not isinstance(normalized, bool) or not isinstance(lower_case, bool):
        raise CheckpointCorrupt(f"pooling: kind must be one of {', '.join(KINDS)}, with normalized and lower_case")
    if max_tokens is not None and (type(max_tokens) is not int or not 3 <= max_tokens <= _MAX_TOKENS):
        raise CheckpointCorrupt(f"max_seq_length must be an integer from 3 to {_MAX_TOKENS}")
    return PoolingConfig(kind, normalized, max_tokens, lower_case)


def _steps(folder: Path) -> dict[str, str] | None:
    """The folders of the steps by their types; ``None`` where ``modules.json`` is missing."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    try:
        listed = json.loads(read_bounded(path))
        found = {str(step["type"]).rpartition(".")[2]: str(step["path"]) for step in listed}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointCorrupt("modules.json must be a list of steps with type and path") from None
    for step, place in found.items():
        if step not in _STEPS:
            raise UnsupportedCheckpoint(f"modules.json has the step {shown(step)!r}; supported: {', '.join(_STEPS)}")
        if step == "Pooling" and f"{place}/config.json" != POOLING_FILE:
            raise UnsupportedCheckpoint(f"modules.json has its pooling elsewhere than in {POOLING_FILE}")
    if "Pooling" not in found:
        raise UnsupportedCheckpoint("modules.json has no pooling: such a model gives no vector for a text")
    return found


def _kind(said: Mapping[str, Any]) -> Kind:
    """The old files set a flag for each kind; newer ones name it."""
    named = said.get("pooling_mode")
    if isinstance(named, str):
        named = {"lasttoken": "last", "mean_sqrt_len_tokens": "mean_sqrt_len"}.get(named, named)
        if named in KINDS:
            return named
        raise _unsupported_kind(str(named))
    chosen = [name for name, value in said.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise _unsupported_kind(" and ".join(chosen) or "none")
    return _MODES[chosen[0]]


def _unsupported_kind(found: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(f"The pooling is {shown(found)!r}; supported: one of {', '.join(KINDS)}")


def _refuse_prompts(said: Mapping[str, Any]) -> None:
    if said.get("default_prompt_name") is not None:
        raise UnsupportedCheckpoint("The model puts a prompt before every text (default_prompt_name): not supported")
