"""Adapters on the native engine: packed into the core, and an engine that runs every sequence with one.

The base's engine runs them all, in one batch with sequences of the base itself. Knows nothing of files or of text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStream
from minivault.engine.native import _native
from minivault.engine.native.engine import NativeEngine
from minivault.engine.native.packing import source_floats
from minivault.errors import CheckpointCorrupt
from minivault.models.adapter import Adapter, AdapterModule, slot_outputs
from minivault.models.checkpoint import TensorView
from minivault.models.tensor_finder import LinearSource


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """An adapter in the core, and what tells its keys and values from those of others."""

    handle: _native.Adapter
    digest: bytes
    """32 bytes."""

    @property
    def memory_bytes(self) -> int:
        return self.handle.bytes


def pack_adapter(core: _native.Core, adapter: Adapter, digest: str) -> PackedAdapter:
    """Give the core every matrix of ``adapter``. ``digest`` says what it was made from, its base included.

    Raises:
        CheckpointCorrupt: a weight is infinite or not a number.
    """
    outputs = slot_outputs(adapter.arch)
    grouped: dict[tuple[int, str], list[AdapterModule]] = {}
    for module in adapter.modules:
        grouped.setdefault((module.layer, module.slot), []).append(module)
    parts = [(layer, slot, *_fused(modules, outputs[slot])) for (layer, slot), modules in sorted(grouped.items())]
    try:
        handle = core.make_adapter(parts)
    except ArithmeticError as error:
        raise CheckpointCorrupt(f"In the adapter, {error}") from None
    return PackedAdapter(handle, hashlib.sha256(digest.encode()).digest())


def _fused(modules: list[AdapterModule], outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A and B of a matrix of the core, of the parts that it was fused from: each has ranks of its own."""
    a = np.concatenate([_floats(module.a) for module in modules])
    b = np.zeros((outputs, len(a)), dtype=np.float32)
    rank = 0
    for module in modules:
        own = _floats(module.b) * np.float32(module.scaling)
        for output, row, count in module.rows:
            b[output : output + count, rank : rank + module.rank] = own[row : row + count]
        rank += module.rank
    return np.ascontiguousarray(a), b


def _floats(view: TensorView) -> NDArray[np.float32]:
    return source_floats(LinearSource(view, 0, view.shape[0]))


class AdaptedEngine:
    """Implements :class:`minivault.engine.engine.Engine` over the base's engine, which it does not own."""

    def __init__(self, engine: NativeEngine, adapter: PackedAdapter) -> None:
        self._engine = engine
        self._adapter = adapter

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def failure(self) -> BaseException | None:
        return self._engine.failure

    def submit(self, request: EngineRequest) -> TokenStream:
        return self._engine.submit(replace(request, adapter=self._adapter))

    def stats(self) -> EngineStats:
        """Of the base's engine: it runs them all."""
        return self._engine.stats()

    async def close(self) -> None:
        """The base's engine goes on; what the adapter took is free when its last sequence has ended."""


def adapted(engine: NativeEngine, adapter: Adapter, digest: str) -> tuple[AdaptedEngine, int]:
    """An engine that answers with ``adapter``, and the bytes that the adapter takes. Blocks while it packs.

    Raises:
        CheckpointCorrupt: a weight is infinite or not a number.
        EngineFailed: the engine was closed.
    """
    packed = engine.adapt(lambda core: pack_adapter(core, adapter, digest))
    return AdaptedEngine(engine, packed), packed.memory_bytes
