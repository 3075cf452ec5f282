"""All sequences of a step in one row: the linear layers run once for all, attention once for each sequence.

Works with models that take their attention from Transformers' interface. What such a model asks of attention and is not
known here is refused, never ignored. Knows nothing of queues, sampling or text. Owner: the engine thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.cache_utils import Cache

NAME = "minivault_packed"
_GROWTH = 1.5
_KNOWN = frozenset(("is_causal", "position_ids", "sliding_window", "softcap", "use_cache", "output_attentions"))

_here = threading.local()  # the step that runs on this thread: attention functions are called with tensors alone


class NotPackable(Exception):
    """The model asks for something that attention of this kind does not have."""


@dataclass(slots=True)
class _Layer:
    """Keys and values of one sequence in one layer: ``[kv_heads, capacity, width]``, of which ``length`` count."""

    keys: torch.Tensor
    values: torch.Tensor
    length: int = 0

    def extend(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append ``[kv_heads, count, width]``."""
        end = self.length + keys.shape[1]
        if end > self.keys.shape[1]:
            capacity = max(end, int(self.keys.shape[1] * _GROWTH))
            self.keys, self.values = _grown(self.keys, capacity), _grown(self.values, capacity)
        self.keys[:, self.length : end] = keys
        self.values[:, self.length : end] = values
        self.length = end


def _grown(old: torch.Tensor, capacity: int) -> torch.Tensor:
    new = old.new_empty((old.shape[0], capacity, old.shape[2]))
    new[:, : old.shape[1]] = old
    return new


@dataclass(slots=True)
class PackedKV:
    """Keys and values of one sequence, by layer."""

    layers: dict[int, _Layer] = field(default_factory=dict)

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        kept = self.layers.get(layer)
        if kept is None:
            empty_keys, empty_values = keys[:, :0], values[:, :0]
            kept = self.layers[layer] = _Layer(empty_keys.contiguous(), empty_values.contiguous())
        kept.extend(keys, values)


@dataclass(frozen=True, slots=True)
class Segment:
    """One sequence's part of the row."""

    kv: PackedKV
    token_ids: Row[int]
    start: int
    """Position of its first token."""


class _Step(Cache):  # type: ignore[misc]  # why: the library has no types that we see
    """A step as the model sees it: a cache that takes in keys and values. Attention then reads each sequence's own."""

    def __init__(self, segments: Row[Segment]) -> None:
        super().__init__(layers=[])
        self.segments = segments
        self.layer = -1

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.layer = layer_idx
        offset = 0
        for segment in self.segments:
            end = offset + len(segment.token_ids)
            segment.kv.extend(layer_idx, key_states[0, :, offset:end], value_states[0, :, offset:end])
            offset = end
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **asked: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` is ``[1, heads, tokens, width]``; keys and values are those that the step has taken in."""
    unknown = [name for name, value in asked.items() if value is not None and name not in _KNOWN]
    step: _Step | None = getattr(_here, "step", None)
    if step is None or unknown or attention_mask is not None or asked.get("is_causal") is False:
        raise NotPackable(f"attention with {', '.join(unknown) or 'a mask of its own'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts, offset = [], 0
    for segment in step.segments:
        end = offset + len(segment.token_ids)
        kept = segment.kv.layers[step.layer]
        keys, values = kept.keys[:, : kept.length], kept.values[:, : kept.length]
        window, softcap = asked.get("sliding_window"), asked.get("softcap")
        parts.append(_attend(query[0, :, offset:end], keys, values, segment.start, scale, window, softcap))
        offset = end
    return torch.cat(parts, dim=1).transpose(0, 1).unsqueeze(0), None


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """One sequence: ``[heads, count, width]`` over ``[kv_heads, length, width]``, causal, at most ``window`` back."""
    count, length = query.shape[1], keys.shape[1]
    if window is not None and length > window + count - 1:
        first = length - (window + count - 1)
        keys, values, length, start = keys[:, first:], values[:, first:], length - first, start - first
    mask = None
    if count > 1:
        own = torch.arange(start, start + count, device=query.device)[:, None]
        others = torch.arange(length, device=query.device)[None, :]
        mask = others <= own
        if window is not None:
            mask &= others > own - window
    if softcap is not None:
        return _soft_capped(query, keys, values, mask, scale, softcap)
    grouped = query.shape[0] != keys.shape[0]
    attended = functional.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, scale=scale, enable_gqa=grouped
    )
    return attended[0]


def _soft_capped(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    shared = query.shape[0] // keys.shape[0]
    keys, values = keys.repeat_interleave(shared, 0), values.repeat_interleave(shared, 0)
    scores = torch.tanh(query @ keys.transpose(1, 2) * scale / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values


AttentionInterface.register(NAME, _attention)


def forward(model: Any, segments: Row[Segment], device: torch.device, *, keep: bool) -> torch.Tensor:
    """Run every segment, and return the logits ``[len(segments), vocab_size]`` of each one's last token.

    ``keep``: the model can be told which logits to compute.

    Raises:
        NotPackable: the model asks attention for something unknown.
    """
    ids = [token_id for segment in segments for token_id in segment.token_ids]
    positions = [segment.start + place for segment in segments for place in range(len(segment.token_ids))]
    lengths = torch.tensor([len(segment.token_ids) for segment in segments])
    last = (lengths.cumsum(0) - 1).to(device)
    _here.step = _Step(segments)
    try:
        given: dict[str, Any] = {"logits_to_keep": last} if keep else {}
        logits = model(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            past_key_values=_here.step,
            use_cache=True,
            **given,
        ).logits[0]
    finally:
        _here.step = None
    return logits if keep else logits[last]
