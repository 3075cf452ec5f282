"""Maps the tensors of a checkpoint onto canonical names, with every presence, shape and dtype checked.

How each family calls and stores its weights lies in ``families``. Nothing is copied: a source is a view, a range of its
rows and whether it is stored transposed. Knows nothing of engines or of how weights are packed.
"""

from __future__ import annotations

from collections.abc import Mapping

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.architecture import Architecture
from minivault.models.checkpoint import Checkpoint, TensorView
from minivault.models.families import FAMILIES
from minivault.models.json_file import shown
from minivault.models.tensor_finder import WEIGHT_DTYPES, LinearSource, Source, TensorFinder

__all__ = ["WEIGHT_DTYPES", "LinearSource", "Source", "WeightSet", "sources", "weight_map"]

WeightSet = Mapping[str, Source]
"""Canonical name -> source.

``embed`` [vocab, hidden]; ``pos_embed`` [context, hidden] with learned positions; ``final_norm.weight`` and ``.bias``;
``lm_head`` [vocab, hidden], absent when tied; and for each layer ``layers.{i}.``: ``attn_norm``, ``q``, ``k``, ``v``,
``o``, ``mlp_norm`` (but with a shared norm), and ``gate``, ``up``, ``down`` or ``fc_in``, ``fc_out``, each with
``.weight`` ([out, in] or, for norms, [hidden]) and, where the architecture has it, ``.bias``; with q and k norms
``q_norm.weight``, ``k_norm.weight`` [head_dim]; with post norms ``post_attn_norm.weight``, ``post_mlp_norm.weight``.

A tuple only for ``q``, ``k`` and ``v`` (weight and bias), where a fused matrix interleaves them; embeddings, the head
and norms are always one source. See :func:`sources`.
"""

_QUANTISED_SUFFIXES = (
    ".qweight", ".qzeros", ".scales", ".g_idx", ".SCB", ".weight_format", ".absmax", ".quant_map", ".weight_scale",
)  # fmt: skip


def sources(weights: WeightSet, name: str) -> tuple[LinearSource, ...]:
    """The sources of ``name``, whose rows follow each other in this order.

    Raises:
        KeyError: there is no such weight.
    """
    found = weights[name]
    return found if isinstance(found, tuple) else (found,)


def weight_map(arch: Architecture, checkpoint: Checkpoint) -> WeightSet:
    """The canonical weights of ``checkpoint``; every tensor is used, known to be unused, or an error.

    Raises:
        CheckpointCorrupt: a tensor is missing, unknown, or has a shape that contradicts the config.
        UnsupportedCheckpoint: weights are quantised or of a dtype that the engine does not read.
    """
    family = FAMILIES[arch.family]
    _refuse_quantised(checkpoint.tensors)
    prefix, head = _prefix(checkpoint.tensors, family.prefixes)
    finder = TensorFinder(checkpoint.tensors, prefix)
    weights = dict(family.tensors(arch, finder))
    weights |= _head(arch, finder, head, weights["embed"])
    unknown = sorted(finder.unused(family.ignored_prefixes, family.ignored_suffixes))
    if unknown:
        raise CheckpointCorrupt(
            f"The checkpoint has {len(unknown)} tensors that config.json does not account for: {shown(unknown[0])}, ..."
        )
    return weights


def _prefix(tensors: Mapping[str, TensorView], prefixes: Mapping[str, str]) -> tuple[str, str]:
    """What stands before the names, and the output head's name. Old files name tensors from the inner model on."""
    for prefix, head in prefixes.items():
        if any(name.startswith(prefix) for name in tensors):
            return prefix, head
    return "", "lm_head.weight"


def _refuse_quantised(tensors: Mapping[str, TensorView]) -> None:
    for name in tensors:
        if name.endswith(_QUANTISED_SUFFIXES):
            raise UnsupportedCheckpoint(
                f"The weights are quantised (GPTQ, AWQ or bitsandbytes: found {shown(name)}); supported: "
                f"{', '.join(WEIGHT_DTYPES)} weights. The `transformers` engine may be able to run it"
            )


def _head(arch: Architecture, finder: TensorFinder, name: str, embed: Source) -> dict[str, Source]:
    if not arch.tied_embeddings:
        return {"lm_head": finder.whole(name, arch.vocab_size, arch.hidden_size, prefixed=False)}
    if finder.has(name):
        (embed,) = embed if isinstance(embed, tuple) else (embed,)
        copy = finder.whole(name, arch.vocab_size, arch.hidden_size, prefixed=False)
        if copy.view.dtype != embed.view.dtype or not _equal(copy.view.data, embed.view.data):
            raise CheckpointCorrupt("config.json ties the output head to the embedding, but lm_head.weight differs")
    return {}


def _equal(one: memoryview, other: memoryview) -> bool:
    """In pieces: comparing views is slow, copying whole embeddings is dear."""
    pieces = range(0, len(one), 1 << 20)
    return all(bytes(one[start : start + (1 << 20)]) == bytes(other[start : start + (1 << 20)]) for start in pieces)
