"""Encoders of the BERT family: what their ``config.json`` says, and how their tensors are called.

An encoder reads a whole text at once and gives a vector for each token; ``models/pooling.py`` says how one for the text
is made of them. Knows nothing of files, arrays or engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from minivault.errors import CheckpointCorrupt
from minivault.models.checkpoint import Checkpoint
from minivault.models.config_values import Config, corrupt, gelu, integer, number, refuse, require, section, unsupported
from minivault.models.description import (
    MAX_ATTENTION_HEADS,
    MAX_CONTEXT_LENGTH,
    MAX_HEAD_DIM,
    MAX_HIDDEN_SIZE,
    MAX_INTERMEDIATE_SIZE,
    MAX_LAYERS,
    MAX_VOCAB_SIZE,
)
from minivault.models.json_file import shown
from minivault.models.tensor_finder import LinearSource, TensorFinder

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")
"""``model_type`` of the checkpoints that are read here."""

_ROBERTA = ("roberta", "xlm-roberta", "camembert")
_MAX_TOKEN_TYPES = 1 << 10
_IGNORED_PREFIXES = ("pooler.", "cls.", "lm_head.", "vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
"""Heads that gave the vectors their training and take no part in them."""

EncoderWeights = Mapping[str, LinearSource]
"""Canonical name -> source: ``embed``, ``pos_embed``, ``token_type`` (absent without token types), ``embed_norm``, and
for each layer ``layers.{i}.``: ``q``, ``k``, ``v``, ``o``, ``attn_norm``, ``fc_in``, ``fc_out``, ``mlp_norm``, each
with ``.weight`` and ``.bias``."""


@dataclass(frozen=True, slots=True)
class EncoderArchitecture:
    """An encoder: ``x = norm(x + attention(x))``, then ``x = norm(x + mlp(x))``, and every token sees all others."""

    family: str
    vocab_size: int
    hidden_size: int
    layers: int
    attention_heads: int
    intermediate_size: int
    context_length: int
    """Tokens of the longest text."""
    position_offset: int
    """Row of the table of positions that a text's first token gets."""
    norm_eps: float
    mlp: Literal["gelu", "gelu_tanh"]
    token_types: int
    """Rows of the table of token types; the first counts for every token. 0: there is none."""

    @property
    def kv_heads(self) -> int:
        return self.attention_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.attention_heads

    @property
    def parameters(self) -> int:
        """Number of weights that are used."""
        hidden, inner = self.hidden_size, self.intermediate_size
        rows = self.vocab_size + self.context_length + self.position_offset + self.token_types
        layer = 4 * hidden * (hidden + 1) + 2 * hidden * inner + inner + hidden + 4 * hidden
        return rows * hidden + 2 * hidden + self.layers * layer


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a parsed ``config.json`` is that of an encoder."""
    return config.get("model_type") in MODEL_TYPES


def read_encoder(config: Mapping[str, Any]) -> EncoderArchitecture:
    """The description of the encoder that ``config`` belongs to.

    Raises:
        UnsupportedCheckpoint: sound, but with an option that the native engine does not have.
        CheckpointCorrupt: a value is missing, of the wrong type, out of bounds, or contradicts another.
    """
    if section(config, "quantization_config"):
        raise unsupported("quantised weights", wanted="F32, F16 or BF16 weights")
    refuse(config, "is_decoder", "add_cross_attention")
    names = config.get("architectures")
    if isinstance(names, list) and any("Classification" in str(name) or "Answering" in str(name) for name in names):
        raise unsupported(f"architectures {shown(', '.join(map(str, names)))}", wanted="an encoder without such a head")
    arch = _distilbert(config) if config["model_type"] == "distilbert" else _bert(config)
    if arch.hidden_size % arch.attention_heads or arch.head_dim > MAX_HEAD_DIM:
        raise corrupt(f"the attention heads must divide the hidden size into at most {MAX_HEAD_DIM}")
    return arch


def _bert(config: Config) -> EncoderArchitecture:
    require(config, "position_embedding_type", "absolute", default="absolute")
    roberta = config["model_type"] in _ROBERTA
    # Such models count positions from behind the padding token's id on.
    offset = _pad_token_id(config) + 1 if roberta else 0
    rows = integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=514 if roberta else 512)
    if rows <= offset:
        raise corrupt(f"max_position_embeddings must be more than {offset}")
    return EncoderArchitecture(
        family=config["model_type"],
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE),
        hidden_size=integer(config, "hidden_size", MAX_HIDDEN_SIZE),
        layers=integer(config, "num_hidden_layers", MAX_LAYERS),
        attention_heads=integer(config, "num_attention_heads", MAX_ATTENTION_HEADS),
        intermediate_size=integer(config, "intermediate_size", MAX_INTERMEDIATE_SIZE),
        context_length=rows - offset,
        position_offset=offset,
        norm_eps=number(config, "layer_norm_eps", 1e-15, 1e-1, default=1e-12),
        mlp=gelu(config, "hidden_act", default="gelu"),
        token_types=integer(config, "type_vocab_size", _MAX_TOKEN_TYPES, default=2),
    )


def _pad_token_id(config: Config) -> int:
    found = config.get("pad_token_id", 1)
    if type(found) is not int or not 0 <= found < 1 << 10:
        raise corrupt("pad_token_id must be an integer from 0 to 1023")
    return found


def _distilbert(config: Config) -> EncoderArchitecture:
    return EncoderArchitecture(
        family="distilbert",
        vocab_size=integer(config, "vocab_size", MAX_VOCAB_SIZE),
        hidden_size=integer(config, "dim", MAX_HIDDEN_SIZE),
        layers=integer(config, "n_layers", MAX_LAYERS),
        attention_heads=integer(config, "n_heads", MAX_ATTENTION_HEADS),
        intermediate_size=integer(config, "hidden_dim", MAX_INTERMEDIATE_SIZE),
        context_length=integer(config, "max_position_embeddings", MAX_CONTEXT_LENGTH, default=512),
        position_offset=0,
        norm_eps=1e-12,
        mlp=gelu(config, "activation", default="gelu"),
        token_types=0,
    )


_BERT_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "fc_in": "intermediate.dense",
    "fc_out": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
_DISTILBERT_NAMES = {
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "o": "attention.out_lin",
    "attn_norm": "sa_layer_norm",
    "fc_in": "ffn.lin1",
    "fc_out": "ffn.lin2",
    "mlp_norm": "output_layer_norm",
}


def encoder_weights(arch: EncoderArchitecture, checkpoint: Checkpoint) -> EncoderWeights:
    """The canonical weights of ``checkpoint``; every tensor is used, known to be unused, or an error.

    Raises:
        CheckpointCorrupt: a tensor is missing, unknown, or has a shape that contradicts the config.
        UnsupportedCheckpoint: weights are of a dtype that the engine does not read.
    """
    known = ("bert.", "roberta.", "distilbert.")
    prefix = next((one for one in known if any(name.startswith(one) for name in checkpoint.tensors)), "")
    finder = TensorFinder(checkpoint.tensors, prefix)
    weights = dict(_named(arch, finder))
    ignored = (*_IGNORED_PREFIXES, prefix + "pooler.")
    unknown = sorted(finder.unused(ignored, ("embeddings.position_ids", "embeddings.token_type_ids")))
    if unknown:
        raise CheckpointCorrupt(
            f"The checkpoint has {len(unknown)} tensors that config.json does not account for: {shown(unknown[0])}, ..."
        )
    return weights


def _named(arch: EncoderArchitecture, finder: TensorFinder) -> Iterator[tuple[str, LinearSource]]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    yield "embed", finder.whole("embeddings.word_embeddings.weight", arch.vocab_size, hidden)
    rows = arch.context_length + arch.position_offset
    yield "pos_embed", finder.whole("embeddings.position_embeddings.weight", rows, hidden)
    if arch.token_types:
        yield "token_type", finder.whole("embeddings.token_type_embeddings.weight", arch.token_types, hidden)
    for kind in ("weight", "bias"):
        yield f"embed_norm.{kind}", finder.whole(f"embeddings.LayerNorm.{kind}", hidden)
    distilbert = arch.family == "distilbert"
    shapes = {"fc_in": (inner, hidden), "fc_out": (hidden, inner), "attn_norm": (hidden,), "mlp_norm": (hidden,)}
    for layer in range(arch.layers):
        stored = f"transformer.layer.{layer}." if distilbert else f"encoder.layer.{layer}."
        for name, theirs in (_DISTILBERT_NAMES if distilbert else _BERT_NAMES).items():
            shape = shapes.get(name, (hidden, hidden))
            yield f"layers.{layer}.{name}.weight", finder.whole(f"{stored}{theirs}.weight", *shape)
            yield f"layers.{layer}.{name}.bias", finder.whole(f"{stored}{theirs}.bias", shape[0])
