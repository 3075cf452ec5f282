"""Reads a Hugging Face ``config.json`` into one small description from which the forward pass follows completely.

What the description cannot say is refused by name rather than ignored: a checkpoint runs as its makers meant it, or not
at all. Standard library only; knows nothing of files, weights, arrays or engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.json_file import shown

MAX_VOCAB_SIZE = 1 << 20
MAX_HIDDEN_SIZE = 1 << 16
MAX_INTERMEDIATE_SIZE = 1 << 18
MAX_LAYERS = 1 << 10
MAX_ATTENTION_HEADS = 1 << 10
MAX_HEAD_DIM = 1 << 10
MAX_CONTEXT_LENGTH = 1 << 20


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched.

    ``linear``: every frequency is divided by ``factor``. ``llama3``: with wavelength ``w = 2 pi / frequency`` and
    ``original = original_context_length``, frequencies with ``w < original / high_freq_factor`` stay, those with
    ``w > original / low_freq_factor`` are divided by ``factor``; between, blended linearly in ``original / w``.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer. Sizes are counts; every one is positive and bounded."""

    family: Literal["llama", "gpt2"]
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
    norm_eps: float
    position: Literal["rope", "learned"]
    rope_theta: float
    """Base of the rotary frequencies; 0 with learned positions."""
    rope_scaling: RopeScaling | None
    mlp: Literal["gated_silu", "gelu_tanh"]
    attention_bias: bool
    """q, k and v have biases."""
    output_bias: bool
    """o has a bias."""
    mlp_bias: bool
    tied_embeddings: bool
    """The output head is the token embedding."""
    sliding_window: int | None
    """Position i attends to j with i - window < j <= i; ``None``: to all j <= i."""
    attention_scale: float
    """Factor on query times key."""

    @property
    def parameters(self) -> int:
        """Number of weights, as the checkpoint's tensors must hold them (a tied head counts once)."""
        norm = self.hidden_size * (2 if self.norm == "layer" else 1)
        queries, keys = self.attention_heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        attention += (queries + 2 * keys) * self.attention_bias + self.hidden_size * self.output_bias
        matrices = 3 if self.mlp == "gated_silu" else 2
        mlp = matrices * self.hidden_size * self.intermediate_size
        mlp += ((matrices - 1) * self.intermediate_size + self.hidden_size) * self.mlp_bias
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        positions = self.context_length * self.hidden_size if self.position == "learned" else 0
        return embeddings + positions + self.layers * (attention + mlp + 2 * norm) + norm


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The description of the checkpoint that ``config`` (a parsed ``config.json``) belongs to.

    Raises:
        UnsupportedCheckpoint: sound, but of an architecture or with an option that the native engine does not have.
        CheckpointCorrupt: a value is missing, of the wrong type, out of bounds, or contradicts another.
    """
    model_type = config.get("model_type")
    reader = _READERS.get(model_type) if isinstance(model_type, str) else None
    if reader is None:
        found = f"model_type {shown(model_type)!r}" if isinstance(model_type, str) else "no model_type"
        raise _unsupported(found)
    _refuse_foreign_heads(config)
    if config.get("quantization_config") is not None:
        method = _object(config, "quantization_config").get("quant_method")
        name = shown(method) if isinstance(method, str) else "unknown"
        raise _unsupported(f"weights quantised with {name!r}", wanted="F32, F16 or BF16 weights")
    return reader(config)


def _read_llama(config: Mapping[str, Any]) -> Architecture:
    _require(config, "hidden_act", "silu", default="silu")
    hidden, heads = _hidden_and_heads(config, "hidden_size", "num_attention_heads")
    head_dim = _head_dim(config, hidden, heads)
    context = _integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=2048)
    theta, scaling = _rope(config, context)
    bias = _flag(config, "attention_bias", default=False)
    return Architecture(
        family="llama",
        vocab_size=_integer(config, "vocab_size", MAX_VOCAB_SIZE),
        hidden_size=hidden,
        layers=_integer(config, "num_hidden_layers", MAX_LAYERS),
        attention_heads=heads,
        kv_heads=_kv_heads(config, heads, default=heads),
        head_dim=head_dim,
        intermediate_size=_integer(config, "intermediate_size", MAX_INTERMEDIATE_SIZE),
        context_length=context,
        norm="rms",
        norm_eps=_number(config, "rms_norm_eps", 1e-12, 1e-1, default=1e-6),
        position="rope",
        rope_theta=theta,
        rope_scaling=scaling,
        mlp="gated_silu",
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=_flag(config, "mlp_bias", default=False),
        tied_embeddings=_flag(config, "tie_word_embeddings", default=False),
        sliding_window=None,
        attention_scale=1.0 / math.sqrt(head_dim),
    )


def _read_mistral(config: Mapping[str, Any]) -> Architecture:
    """Mistral is Llama with a window, no biases and other defaults."""
    if config.get("layer_types") is not None:
        raise _unsupported("mistral with layer_types")
    window = config.get("sliding_window", 4096)
    as_llama = {"max_position_embeddings": 4096 * 32, "num_key_value_heads": 8, **config}
    as_llama |= {"attention_bias": False, "mlp_bias": False}
    read = _read_llama(as_llama)
    if window is None:
        return read
    return _with_window(read, _integer({"sliding_window": window}, "sliding_window", 1 << 30))


def _with_window(architecture: Architecture, window: int) -> Architecture:
    values = {name: getattr(architecture, name) for name in Architecture.__dataclass_fields__}
    values["sliding_window"] = window if window < architecture.context_length else None
    return Architecture(**values)


def _read_gpt2(config: Mapping[str, Any]) -> Architecture:
    activation = config.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):  # two names of one function
        raise _unsupported(f"activation_function {_named(activation)}", wanted="gelu_new")
    _require(config, "scale_attn_weights", True, default=True)
    _require(config, "scale_attn_by_inverse_layer_idx", False, default=False)
    _require(config, "add_cross_attention", False, default=False)
    hidden, heads = _hidden_and_heads(config, "n_embd", "n_head")
    if hidden % heads:
        raise CheckpointCorrupt("config.json: n_embd must be a multiple of n_head")
    inner = 4 * hidden if config.get("n_inner") is None else _integer(config, "n_inner", MAX_INTERMEDIATE_SIZE)
    return Architecture(
        family="gpt2",
        vocab_size=_integer(config, "vocab_size", MAX_VOCAB_SIZE, default=50257),
        hidden_size=hidden,
        layers=_integer(config, "n_layer", MAX_LAYERS),
        attention_heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=inner,
        context_length=_integer(config, "n_positions", MAX_CONTEXT_LENGTH, default=1024),
        norm="layer",
        norm_eps=_number(config, "layer_norm_epsilon", 1e-12, 1e-1, default=1e-5),
        position="learned",
        rope_theta=0.0,
        rope_scaling=None,
        mlp="gelu_tanh",
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=_flag(config, "tie_word_embeddings", default=True),
        sliding_window=None,
        attention_scale=1.0 / math.sqrt(hidden // heads),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "llama": _read_llama,
    "mistral": _read_mistral,
    "gpt2": _read_gpt2,
}


def _hidden_and_heads(config: Mapping[str, Any], hidden_name: str, heads_name: str) -> tuple[int, int]:
    hidden = _integer(config, hidden_name, MAX_HIDDEN_SIZE)
    return hidden, _integer(config, heads_name, MAX_ATTENTION_HEADS)


def _head_dim(config: Mapping[str, Any], hidden: int, heads: int) -> int:
    if config.get("head_dim") is None and hidden % heads:
        raise CheckpointCorrupt("config.json: hidden_size must be a multiple of num_attention_heads")
    head_dim = hidden // heads if config.get("head_dim") is None else _integer(config, "head_dim", MAX_HEAD_DIM)
    if not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise CheckpointCorrupt(f"config.json: head_dim must be even, from 2 to {MAX_HEAD_DIM}")
    return head_dim


def _kv_heads(config: Mapping[str, Any], heads: int, default: int) -> int:
    if config.get("num_key_value_heads") is None:
        return default
    kv_heads = _integer(config, "num_key_value_heads", MAX_ATTENTION_HEADS)
    if heads % kv_heads:
        raise CheckpointCorrupt("config.json: num_attention_heads must be a multiple of num_key_value_heads")
    return kv_heads


def _rope(config: Mapping[str, Any], context: int) -> tuple[float, RopeScaling | None]:
    """Theta and scaling, from ``rope_parameters`` (newer files) or from ``rope_theta`` and ``rope_scaling``."""
    newer = config.get("rope_parameters") is not None
    options = _object(config, "rope_parameters" if newer else "rope_scaling")
    theta_source = options if newer and "rope_theta" in options else config
    theta = _number(theta_source, "rope_theta", 1.0, 1e12, default=10_000.0)
    for source in (config, options):
        if source.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise _unsupported("partial_rotary_factor other than 1", wanted="rotary positions over the whole head")
    kind = options.get("rope_type", options.get("type", "default"))
    if kind == "default":
        return theta, None
    factor = _number(options, "factor", 1.0, 1e6)
    if kind == "linear":
        return theta, RopeScaling("linear", factor)
    if kind == "llama3":
        return theta, _llama3_scaling(options, factor, context)
    raise _unsupported(f"rope scaling {_named(kind)}", wanted="default, linear or llama3")


def _llama3_scaling(options: Mapping[str, Any], factor: float, context: int) -> RopeScaling:
    low = _number(options, "low_freq_factor", 1e-6, 1e6)
    high = _number(options, "high_freq_factor", 1e-6, 1e6)
    if high <= low:
        raise CheckpointCorrupt("config.json: high_freq_factor must be above low_freq_factor")
    original = _integer(options, "original_max_position_embeddings", MAX_CONTEXT_LENGTH, default=context)
    return RopeScaling("llama3", factor, low, high, original)


def _refuse_foreign_heads(config: Mapping[str, Any]) -> None:
    """Only causal language models: a classifier's checkpoint has other tensors under the same model_type."""
    names = config.get("architectures")
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointCorrupt("config.json: architectures must be a list of names")
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel", "Model")) for name in names):
        raise _unsupported(f"architectures {shown(', '.join(names))}", wanted="a causal language model")


def _unsupported(found: str, wanted: str = "") -> UnsupportedCheckpoint:
    supported = wanted or "model_type " + ", ".join(sorted(_READERS))
    return UnsupportedCheckpoint(
        f"The native engine cannot run this checkpoint: found {found}; supported: {supported}. "
        "The `transformers` engine may be able to run it"
    )


def _named(value: object) -> str:
    return repr(shown(value)) if isinstance(value, str) else f"of type {type(value).__name__}"


def _require(config: Mapping[str, Any], name: str, wanted: object, default: object) -> None:
    found = config.get(name, default)
    if found != wanted:
        described = _named(found) if not isinstance(found, bool) else str(found).lower()
        raise _unsupported(f"{name} {described}", wanted=f"{name} {wanted}".lower())


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CheckpointCorrupt(f"config.json: {name} must be an object")
    return found


def _integer(config: Mapping[str, Any], name: str, most: int, default: int | None = None) -> int:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= most:
        raise CheckpointCorrupt(f"config.json: {name} must be an integer from 1 to {most}")
    return found


def _number(config: Mapping[str, Any], name: str, least: float, most: float, default: float | None = None) -> float:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, int | float) or isinstance(found, bool) or not least <= found <= most:
        raise CheckpointCorrupt(f"config.json: {name} must be a number from {least:g} to {most:g}")
    return float(found)


def _flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    found = config.get(name)
    found = default if found is None else found
    if not isinstance(found, bool):
        raise CheckpointCorrupt(f"config.json: {name} must be true or false")
    return found
