"""One sequence at a time, as the model itself runs one: for models whose attention is their own.

Knows nothing of queues, sampling or text. Owner: the engine thread.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from enum import Enum
from typing import Any

import torch


class Memory(Enum):
    """What a model keeps between two steps of one sequence."""

    CHUNKS = "chunks"
    """A cache to which any number of tokens can be added at once."""
    STEPS = "steps"
    """A state: the prompt in one piece, then token by token."""
    NOTHING = "nothing"
    """Nothing that can be used: each step runs the whole sequence."""


CACHE_NAMES = ("past_key_values", "cache_params")


def cache_name(parameters: Row[str]) -> str | None:
    """What the model's ``forward`` calls its cache."""
    return next((name for name in CACHE_NAMES if name in parameters), None)


def forward(
    model: Any, token_ids: Row[int], cache: Any, device: torch.device, *, name: str | None, keep: bool
) -> tuple[torch.Tensor, Any]:
    """Run ``token_ids`` after what ``cache`` holds: the logits ``[vocab_size]`` of the last one, and the cache."""
    given: dict[str, Any] = {"logits_to_keep": 1} if keep else {}
    if name is not None:
        given |= {"use_cache": True, name: cache}
    answer = model(input_ids=torch.tensor([token_ids], device=device), **given)
    return answer.logits[0, -1], None if name is None else getattr(answer, name, None)
