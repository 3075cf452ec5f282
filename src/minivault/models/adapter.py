"""Reads a LoRA adapter in PEFT's form against the model that it was made for: every tensor's name, shape and dtype.

``adapter_config.json`` and ``adapter_model.safetensors``, never pickle. What would need more than low-rank additions to
the model's own matrices is refused by name. Knows nothing of engines, of how weights are packed, or of catalogs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.checkpoint import Checkpoint, TensorView
from minivault.models.json_file import read_json_object, shown
from minivault.models.tensor_finder import WEIGHT_DTYPES
from minivault.models.weights import WeightSet, sources, weight_map

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_RANK = 1024
MAX_ALPHA = 1e6

_PEFT_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(.+)\.lora_(A|B)\.weight")
_IN_LAYER = re.compile(r"(?:.*\.)?((?:layers|h)\.\d+\..+)")
_KNOWN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin training that leave the base's weights as they are."""
_HARMLESS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_config", "megatron_core", "modules_to_save",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
}  # fmt: skip
"""Settings that are read here, or that change nothing in what a trained adapter computes."""


@dataclass(frozen=True, slots=True)
class AdapterModule:
    """What is added to one matrix, ``scaling * B (A x)``. The views die with the adapter's file."""

    layer: int
    slot: str
    """The core's matrix: ``qkv``, ``output``, ``mlp_in`` or ``mlp_out``."""
    a: TensorView
    """[rank, inputs]"""
    b: TensorView
    """[stored outputs, rank]"""
    scaling: float
    rows: tuple[tuple[int, int, int], ...]
    """Ranges of the slot's outputs: (first output, first row of ``b``, how many)."""

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that fits its base."""

    arch: Architecture
    modules: tuple[AdapterModule, ...]

    @property
    def parameters(self) -> int:
        return sum(math.prod(module.a.shape) + math.prod(module.b.shape) for module in self.modules)

    @property
    def memory_bytes(self) -> int:
        """What it takes in the core, about: floats, in panels of 32 columns."""
        ranks: dict[tuple[int, str], tuple[int, int]] = {}
        for module in self.modules:
            key = (module.layer, module.slot)
            ranks[key] = (ranks.get(key, (0, 0))[0] + module.rank, module.a.shape[1])
        inner = sum(4 * -(-rank // 32) * 32 * inputs for rank, inputs in ranks.values())
        return inner + sum(4 * (module.b.shape[0] + 32) * module.rank for module in self.modules)


def slot_outputs(arch: Architecture) -> dict[str, int]:
    """How many outputs each of the core's matrices has."""
    heads = (arch.attention_heads + 2 * arch.kv_heads) * arch.head_dim
    inner = arch.intermediate_size * (2 if arch.gated else 1)
    return {"qkv": heads, "output": arch.hidden_size, "mlp_in": inner, "mlp_out": arch.hidden_size}


@contextmanager
def opened_adapter(folder: Path, base: Path) -> Iterator[Adapter]:
    """The adapter in ``folder`` for the checkpoint in ``base``; its views are there for the length of the block.

    Raises:
        CheckpointCorrupt: a file is not sound, or a tensor does not fit the base.
        UnsupportedCheckpoint: it asks for more than low-rank additions to attention and MLP.
    """
    config = read_config(folder)
    arch = read_architecture(read_json_object(base / "config.json"))
    with Checkpoint.open(base) as weights, Checkpoint.open_file(folder, WEIGHTS) as stored:
        targets = _targets(arch, weight_map(arch, weights), weights.tensors)
        yield Adapter(arch, tuple(_modules(config, stored.tensors, targets)))


def read_config(folder: Path) -> Mapping[str, Any]:
    """``adapter_config.json``, with nothing set that is not supported.

    Raises:
        CheckpointCorrupt: it is not sound.
        UnsupportedCheckpoint: it asks for something else, which the message names.
    """
    if not (folder / WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise UnsupportedCheckpoint(f"Adapters are read from {WEIGHTS} only (pickle never); found adapter_model.bin")
    config = read_json_object(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise _unsupported("peft_type", config.get("peft_type"), "LORA")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise _unsupported("task_type", config.get("task_type"), "CAUSAL_LM")
    if config.get("bias") not in (None, "none"):
        raise _unsupported("bias", config.get("bias"), "none")
    if config.get("init_lora_weights") not in _KNOWN_STARTS:
        raise _unsupported(
            "init_lora_weights", config.get("init_lora_weights"), "true, false, gaussian, eva, orthogonal"
        )
    for name in ("modules_to_save", "alpha_pattern"):
        if config.get(name):
            raise _unsupported(name, config[name], "none")
    for name, value in config.items():
        if value and name not in _HARMLESS:
            raise _unsupported(shown(name), value, "none")
    alpha, rank = config.get("lora_alpha"), config.get("r")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not -MAX_ALPHA <= alpha <= MAX_ALPHA:
        raise CheckpointCorrupt(f"{CONFIG}: lora_alpha must be a number from {-MAX_ALPHA:g} to {MAX_ALPHA:g}")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise CheckpointCorrupt(f"{CONFIG}: r must be a whole number from 1 to {MAX_RANK}")
    return config


def _unsupported(name: str, value: Any, supported: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(f"{CONFIG}: {name} is {shown(str(value))}; supported: {supported}")


@dataclass(frozen=True, slots=True)
class _Target:
    layer: int
    slot: str
    inputs: int
    outputs: int
    rows: tuple[tuple[int, int, int], ...]


def _targets(arch: Architecture, weights: WeightSet, tensors: Mapping[str, TensorView]) -> dict[str, _Target]:
    """Every matrix of the layers that can be adapted, by the tail of its module's name, from ``layers`` or ``h`` on."""
    names = {id(view): name for name, view in tensors.items()}
    queries, keys = arch.attention_heads * arch.head_dim, arch.kv_heads * arch.head_dim
    inner = arch.intermediate_size
    places = [("q", "qkv", 0), ("k", "qkv", queries), ("v", "qkv", queries + keys), ("o", "output", 0)]
    if arch.gated:
        places += [("gate", "mlp_in", 0), ("up", "mlp_in", inner), ("down", "mlp_out", 0)]
    else:
        places += [("fc_in", "mlp_in", 0), ("fc_out", "mlp_out", 0)]
    found: dict[str, _Target] = {}
    for layer in range(arch.layers):
        for name, slot, output in places:
            for source in sources(weights, f"layers.{layer}.{name}.weight"):
                module = _tail(names[id(source.view)].removesuffix(".weight")) or ""
                stored = source.view.shape[1 if source.transposed else 0]
                earlier = found[module].rows if module in found else ()
                rows = (*earlier, (output, source.row_start, source.rows))
                found[module] = _Target(layer, slot, source.shape[1], stored, rows)
                output += source.rows
    return found


def _tail(module: str) -> str | None:
    match = None if "vision" in module else _IN_LAYER.fullmatch(module)
    return None if match is None else match[1]


def _modules(
    config: Mapping[str, Any], tensors: Mapping[str, TensorView], targets: Mapping[str, _Target]
) -> Iterator[AdapterModule]:
    pairs: dict[str, dict[str, TensorView]] = {}
    for name, view in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise UnsupportedCheckpoint(
                f"The adapter holds {shown(name)}; supported: lora_A and lora_B of attention and MLP matrices"
            )
        pairs.setdefault(match[1].removeprefix(_PEFT_PREFIX), {})[match[2]] = view
    if not pairs:
        raise CheckpointCorrupt(f"{WEIGHTS} holds no tensor")
    found = {module: _target(module, targets) for module in pairs}
    seen: set[tuple[int, str, tuple[tuple[int, int, int], ...]]] = set()
    for module, pair in pairs.items():
        target = found[module]
        place = (target.layer, target.slot, target.rows)
        if pair.keys() != {"A", "B"} or place in seen:
            raise CheckpointCorrupt(f"The adapter must have one lora_A and one lora_B for {shown(module)}")
        seen.add(place)
        rank = _checked_rank(config, module, pair["A"], pair["B"], target)
        alpha = float(config["lora_alpha"])
        scaling = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        yield AdapterModule(target.layer, target.slot, pair["A"], pair["B"], scaling, target.rows)


def _target(module: str, targets: Mapping[str, _Target]) -> _Target:
    tail = _tail(module)
    if tail is None or tail not in targets:
        raise UnsupportedCheckpoint(
            f"The adapter changes {shown(module)}; supported: the attention and MLP matrices of the base's layers"
        )
    return targets[tail]


def _checked_rank(config: Mapping[str, Any], module: str, a: TensorView, b: TensorView, target: _Target) -> int:
    rank = a.shape[0] if len(a.shape) == 2 else 0
    if not 1 <= rank <= MAX_RANK or (rank != config["r"] and not config.get("rank_pattern")):
        raise CheckpointCorrupt(f"The rank of lora_A of {shown(module)} must be r of {CONFIG}, found {list(a.shape)}")
    if a.shape != (rank, target.inputs) or b.shape != (target.outputs, rank):
        raise CheckpointCorrupt(
            f"The adapter of {shown(module)} must have lora_A {[rank, target.inputs]} and lora_B "
            f"{[target.outputs, rank]} for this base, found {list(a.shape)} and {list(b.shape)}"
        )
    for view in (a, b):
        if view.dtype not in WEIGHT_DTYPES:
            raise UnsupportedCheckpoint(
                f"The adapter of {shown(module)} has dtype {view.dtype}; supported: {', '.join(WEIGHT_DTYPES)}"
            )
    return rank
