"""The description of a decoder-only transformer: everything about a checkpoint that is not a weight.

Plain values; knows nothing of files, of ``config.json`` or of engines. With the weights it says all that a forward pass
needs (``tests/models/reference.py`` is that pass, in NumPy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FamilyName = Literal["llama", "gpt2", "gpt_neo", "falcon", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"]

MAX_VOCAB_SIZE = 1 << 20
MAX_HIDDEN_SIZE = 1 << 16
MAX_INTERMEDIATE_SIZE = 1 << 18
MAX_LAYERS = 1 << 10
MAX_ATTENTION_HEADS = 1 << 10
MAX_HEAD_DIM = 1 << 10
MAX_CONTEXT_LENGTH = 1 << 20
MAX_WINDOW = 1 << 30


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies ``theta ** (-2i / d)``, ``i < d / 2``, ``d = rotary_dim``, are stretched.

    ``linear``: every frequency is divided by ``factor``.

    ``llama3``: with wavelength ``w = 2 pi / frequency`` and ``original = original_context_length``, frequencies with
    ``w < original / high_freq_factor`` stay, those with ``w > original / low_freq_factor`` are divided by ``factor``;
    between, blended linearly in ``original / w``.

    ``dynamic``: the frequencies at position ``p`` are those of the base ``theta * (factor * n / original -
    (factor - 1)) ** (d / (d - 2))`` with ``n = max(p + 1, original)``. So they follow from the position alone, whatever
    else is in the sequence: what decoding step by step with a cache gives in Transformers (a long prompt in one pass
    there turns all of its positions by the frequencies of its last).

    ``yarn``: with ``bound(r) = d * ln(original / (2 pi r)) / (2 ln theta)``, ``low = bound(beta_fast)`` and ``high =
    bound(beta_slow)``, rounded down and up where ``truncate``, then ``low`` at least 0 and ``high`` at most ``d - 1``
    (``high`` 0.001 more where they are equal): frequency ``i`` is divided by ``factor`` in the share
    ``clip((i - low) / (high - low), 0, 1)`` and stays in the rest. Cosines and sines are multiplied by
    ``attention_factor``.
    """

    kind: Literal["linear", "llama3", "dynamic", "yarn"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: dimension ``i`` of the first half of ``rotary_dim`` turns with ``i`` of the second half."""

    theta: float
    """Base of the frequencies."""
    scaling: RopeScaling | None


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer. Sizes are counts; every one is positive and bounded.

    A layer is ``x + attention(attn_norm(x))``, then ``x + mlp(mlp_norm(x))``, but for ``parallel``.
    """

    family: FamilyName
    vocab_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    kv_heads: int
    """Divides ``attention_heads``: grouped queries."""
    head_dim: int
    intermediate_size: int
    context_length: int
    """Positions that the checkpoint was made for; with learned positions a hard end."""
    norm: Literal["rms", "layer"]
    """Layer norms have a bias."""
    norm_eps: float
    position: Literal["rope", "learned"]
    mlp: Literal["gated_silu", "gated_gelu_tanh", "gelu_tanh", "gelu"]
    """``gelu`` is the exact one, by erf."""
    attention_bias: bool
    """q, k and v have biases."""
    output_bias: bool
    """o has a bias."""
    mlp_bias: bool
    tied_embeddings: bool
    """The output head is the token embedding."""
    attention_scale: float
    """Factor on query times key."""
    layer_windows: tuple[int | None, ...]
    """One for each layer: position i attends to j with i - window < j <= i; ``None``: to all j <= i."""
    rotary_dim: int = 0
    """Dimensions at the head's beginning that are rotated, even; the others stay. 0 with learned positions."""
    ropes: tuple[Rope, ...] = ()
    """Empty with learned positions."""
    layer_ropes: tuple[int, ...] = ()
    """One for each layer: which of ``ropes``. Empty with learned positions."""
    norm_offset: float = 0.0
    """Added to the stored weight of every norm (Gemma stores how far it is from 1)."""
    qk_norm: bool = False
    """Every head's q and k pass an RMS norm over ``head_dim`` before they are rotated."""
    post_norms: bool = False
    """What attention and MLP give passes a norm of its own before it is added."""
    parallel: bool = False
    """``x + attention(attn_norm(x)) + mlp(mlp_norm(x))``."""
    shared_norm: bool = False
    """The MLP takes what ``attn_norm`` gives; there is no ``mlp_norm``. Only with ``parallel``."""
    attention_softcap: float = 0.0
    """Scores s become cap * tanh(s / cap) before the mask; 0: they stay."""
    logit_softcap: float = 0.0
    """The same for logits."""
    embedding_scale: float = 1.0
    """Factor on the token embedding as input; not where it is the output head."""

    @property
    def gated(self) -> bool:
        """The MLP has three matrices: gate, up and down."""
        return self.mlp in ("gated_silu", "gated_gelu_tanh")

    @property
    def parameters(self) -> int:
        """Number of weights, as the checkpoint's tensors must hold them (a tied head counts once)."""
        norm = self.hidden_size * (2 if self.norm == "layer" else 1)
        norms = norm * (2 - self.shared_norm + 2 * self.post_norms) + 2 * self.head_dim * self.qk_norm
        queries, keys = self.attention_heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        attention += (queries + 2 * keys) * self.attention_bias + self.hidden_size * self.output_bias
        matrices = 3 if self.gated else 2
        mlp = matrices * self.hidden_size * self.intermediate_size
        mlp += ((matrices - 1) * self.intermediate_size + self.hidden_size) * self.mlp_bias
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        positions = self.context_length * self.hidden_size if self.position == "learned" else 0
        return embeddings + positions + self.layers * (attention + mlp + norms) + norm
