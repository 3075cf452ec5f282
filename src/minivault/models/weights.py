"""Maps the tensors of a checkpoint onto canonical names, with every presence, shape and dtype checked.

The one place that knows how each family calls and stores its weights. Nothing is copied: a source is a view, a range of
its rows and whether it is stored transposed. Knows nothing of engines or of how weights are packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.architecture import Architecture
from minivault.models.checkpoint import Checkpoint, TensorView
from minivault.models.json_file import shown

WEIGHT_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class LinearSource:
    """Output rows ``row_start .. row_start + rows`` of a stored tensor: logically ``[rows, in]``, at rank 1 ``[rows]``.

    ``transposed``: the view is stored ``[in, out]`` (GPT-2's Conv1D), so the rows lie along its second axis.
    """

    view: TensorView
    row_start: int
    rows: int
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape: ``[rows, in]`` or ``[rows]``."""
        if len(self.view.shape) == 1:
            return (self.rows,)
        return (self.rows, self.view.shape[0 if self.transposed else 1])


WeightSet = Mapping[str, LinearSource]
"""Canonical name -> source.

``embed`` [vocab, hidden]; ``pos_embed`` [context, hidden] with learned positions; ``final_norm.weight`` and ``.bias``;
``lm_head`` [vocab, hidden], absent when tied; and for each layer ``layers.{i}.``: ``attn_norm``, ``q``, ``k``, ``v``,
``o``, ``mlp_norm``, and ``gate``, ``up``, ``down`` or ``fc_in``, ``fc_out``, each with ``.weight`` ([out, in] or, for
norms, [hidden]) and, where the architecture has it, ``.bias``.
"""


def weight_map(arch: Architecture, checkpoint: Checkpoint) -> WeightSet:
    """The canonical weights of ``checkpoint``; every tensor is used, known to be unused, or an error.

    Raises:
        CheckpointCorrupt: a tensor is missing, unknown, or has a shape that contradicts the config.
        UnsupportedCheckpoint: weights are quantised or of a dtype that the engine does not read.
    """
    _refuse_quantised(checkpoint.tensors)
    finder = _Finder(checkpoint.tensors, _prefix(checkpoint.tensors, _PREFIXES[arch.family]))
    weights = dict(_MAPS[arch.family](arch, finder))
    weights |= _head(arch, finder, weights["embed"])
    unknown = sorted(finder.unused(_IGNORED_SUFFIXES[arch.family]))
    if unknown:
        raise CheckpointCorrupt(
            f"The checkpoint has {len(unknown)} tensors that config.json does not account for: {shown(unknown[0])}, ..."
        )
    return weights


@dataclass(slots=True)
class _Finder:
    tensors: Mapping[str, TensorView]
    prefix: str
    used: set[str] = field(default_factory=set)

    def whole(self, name: str, *shape: int, prefixed: bool = True) -> LinearSource:
        return LinearSource(self._take(name, shape, prefixed), 0, shape[0])

    def conv1d(self, name: str, rows: int, columns: int, row_start: int = 0, total: int | None = None) -> LinearSource:
        """Rows of a Conv1D that is stored ``[columns, total]``."""
        view = self._take(name, (columns, total or rows), prefixed=True)
        return LinearSource(view, row_start, rows, transposed=True)

    def part(self, name: str, rows: int, row_start: int, total: int) -> LinearSource:
        """A range of a stored vector."""
        return LinearSource(self._take(name, (total,), prefixed=True), row_start, rows)

    def has(self, name: str) -> bool:
        return name in self.tensors

    def unused(self, ignored_suffixes: tuple[str, ...]) -> Iterator[str]:
        return (name for name in self.tensors if name not in self.used and not name.endswith(ignored_suffixes))

    def _take(self, name: str, shape: tuple[int, ...], prefixed: bool) -> TensorView:
        full = self.prefix + name if prefixed else name
        view = self.tensors.get(full)
        if view is None:
            raise CheckpointCorrupt(f"The checkpoint lacks the tensor {full}")
        if view.shape != shape:
            raise CheckpointCorrupt(
                f"The tensor {full} must have shape {list(shape)} by config.json, found {list(view.shape)}"
            )
        if view.dtype not in WEIGHT_DTYPES:
            raise UnsupportedCheckpoint(
                f"The tensor {full} has dtype {view.dtype}; supported: {', '.join(WEIGHT_DTYPES)}. "
                "The `transformers` engine may be able to run it"
            )
        self.used.add(full)
        return view


def _prefix(tensors: Mapping[str, TensorView], prefix: str) -> str:
    """Old files name tensors from the inner model on, without ``prefix``."""
    return prefix if any(name.startswith(prefix) for name in tensors) else ""


def _refuse_quantised(tensors: Mapping[str, TensorView]) -> None:
    for name in tensors:
        if name.endswith(_QUANTISED_SUFFIXES):
            raise UnsupportedCheckpoint(
                f"The weights are quantised (GPTQ, AWQ or bitsandbytes: found {shown(name)}); supported: "
                f"{', '.join(WEIGHT_DTYPES)} weights. The `transformers` engine may be able to run it"
            )


def _head(arch: Architecture, finder: _Finder, embed: LinearSource) -> dict[str, LinearSource]:
    name = "lm_head.weight"
    if not arch.tied_embeddings:
        return {"lm_head": finder.whole(name, arch.vocab_size, arch.hidden_size, prefixed=False)}
    if finder.has(name):
        copy = finder.whole(name, arch.vocab_size, arch.hidden_size, prefixed=False)
        if copy.view.dtype != embed.view.dtype or not _equal(copy.view.data, embed.view.data):
            raise CheckpointCorrupt("config.json ties the output head to the embedding, but lm_head.weight differs")
    return {}


def _equal(one: memoryview, other: memoryview) -> bool:
    """In pieces: comparing views is slow, copying whole embeddings is dear."""
    pieces = range(0, len(one), 1 << 20)
    return all(bytes(one[start : start + (1 << 20)]) == bytes(other[start : start + (1 << 20)]) for start in pieces)


def _llama(arch: Architecture, finder: _Finder) -> Iterator[tuple[str, LinearSource]]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
    linears = (
        ("q", "self_attn.q_proj", queries, hidden, arch.attention_bias),
        ("k", "self_attn.k_proj", keys, hidden, arch.attention_bias),
        ("v", "self_attn.v_proj", keys, hidden, arch.attention_bias),
        ("o", "self_attn.o_proj", hidden, queries, arch.output_bias),
        ("gate", "mlp.gate_proj", inner, hidden, arch.mlp_bias),
        ("up", "mlp.up_proj", inner, hidden, arch.mlp_bias),
        ("down", "mlp.down_proj", hidden, inner, arch.mlp_bias),
    )
    yield "embed", finder.whole("embed_tokens.weight", arch.vocab_size, hidden)
    for layer in range(arch.layers):
        ours, theirs = f"layers.{layer}.", f"layers.{layer}."
        yield f"{ours}attn_norm.weight", finder.whole(f"{theirs}input_layernorm.weight", hidden)
        yield f"{ours}mlp_norm.weight", finder.whole(f"{theirs}post_attention_layernorm.weight", hidden)
        for name, stored, rows, columns, bias in linears:
            yield f"{ours}{name}.weight", finder.whole(f"{theirs}{stored}.weight", rows, columns)
            if bias:
                yield f"{ours}{name}.bias", finder.whole(f"{theirs}{stored}.bias", rows)
    yield "final_norm.weight", finder.whole("norm.weight", hidden)


def _gpt2(arch: Architecture, finder: _Finder) -> Iterator[tuple[str, LinearSource]]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    yield "embed", finder.whole("wte.weight", arch.vocab_size, hidden)
    yield "pos_embed", finder.whole("wpe.weight", arch.context_length, hidden)
    for layer in range(arch.layers):
        ours, theirs = f"layers.{layer}.", f"h.{layer}."
        for kind in ("weight", "bias"):
            yield f"{ours}attn_norm.{kind}", finder.whole(f"{theirs}ln_1.{kind}", hidden)
            yield f"{ours}mlp_norm.{kind}", finder.whole(f"{theirs}ln_2.{kind}", hidden)
        for part, name in enumerate("qkv"):
            start, fused = part * hidden, f"{theirs}attn.c_attn"
            yield f"{ours}{name}.weight", finder.conv1d(f"{fused}.weight", hidden, hidden, start, 3 * hidden)
            yield f"{ours}{name}.bias", finder.part(f"{fused}.bias", hidden, start, 3 * hidden)
        for name, stored, rows, columns in (
            ("o", "attn.c_proj", hidden, hidden),
            ("fc_in", "mlp.c_fc", inner, hidden),
            ("fc_out", "mlp.c_proj", hidden, inner),
        ):
            yield f"{ours}{name}.weight", finder.conv1d(f"{theirs}{stored}.weight", rows, columns)
            yield f"{ours}{name}.bias", finder.whole(f"{theirs}{stored}.bias", rows)
    for kind in ("weight", "bias"):
        yield f"final_norm.{kind}", finder.whole(f"ln_f.{kind}", hidden)


_MAPS: Mapping[str, Callable[[Architecture, _Finder], Iterator[tuple[str, LinearSource]]]] = {
    "llama": _llama,
    "gpt2": _gpt2,
}
_PREFIXES: Mapping[str, str] = {"llama": "model.", "gpt2": "transformer."}
_IGNORED_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "llama": (".rotary_emb.inv_freq",),  # a buffer of old files; follows from the config
    "gpt2": (".attn.bias", ".attn.masked_bias"),  # the causal mask, stored as a tensor by old files
}
_QUANTISED_SUFFIXES = (
    ".qweight", ".qzeros", ".scales", ".g_idx", ".SCB", ".weight_format", ".absmax", ".quant_map", ".weight_scale",
)  # fmt: skip
