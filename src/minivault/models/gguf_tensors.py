"""Writes the tensors of a GGUF file as safetensors, a piece at a time. The one door to the ``gguf`` package.

Floats stay what they are. Quantised values become F16, whose rounding is far below any quantisation's, or F32 where F16
cannot hold them. Memory is bounded by a piece, but for matrices that must be transposed. Knows no family.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from minivault.errors import CheckpointCorrupt
from minivault.models.checkpoint import ITEM_SIZES
from minivault.models.gguf_file import GgufFile, GgufTensor
from minivault.models.gguf_names import Conversion, target_shape
from minivault.models.json_file import shown

PIECE_ELEMENTS = 1 << 22
"""Values in hand at once."""

_PLAIN: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_WIDEST = 1 << 62

Array = NDArray[Any]


class _TooLarge(Exception):
    """A value that F16 cannot hold."""


@dataclass(frozen=True, slots=True)
class _Written:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def expected_bytes(source: GgufFile, plan: Sequence[Conversion]) -> int:
    """What :func:`write_checkpoint` writes, but for the header and values that F16 cannot hold."""
    return sum(
        math.prod(source.tensors[step.source].shape) * ITEM_SIZES[_dtype(source.tensors[step.source], step)]
        for step in plan
    )


def write_checkpoint(
    source: GgufFile, plan: Sequence[Conversion], path: Path, report: Callable[[int], None] | None = None
) -> None:
    """Make the safetensors file ``path`` of ``plan``, durable when this returns.

    ``report`` is called with the bytes of each tensor of ``source`` that was read.

    Raises:
        CheckpointCorrupt: a value is not finite, or two tensors become one.
        OSError: it cannot be written.
    """
    if len({step.target for step in plan}) != len(plan):
        raise CheckpointCorrupt("Two tensors of the GGUF file become one")
    reserved = _header_room(source, plan)
    written: list[_Written] = []
    with path.open("xb") as file:
        file.seek(8 + reserved)
        place = 0
        for step in plan:
            tensor = source.tensors[step.source]
            done = _write_tensor(file, source, tensor, step, place, 8 + reserved)
            written.append(done)
            place = done.end
            if report is not None:
                report(tensor.size)
        file.truncate(8 + reserved + place)
        file.seek(0)
        file.write(reserved.to_bytes(8, "little") + _header(written).ljust(reserved))
        file.flush()
        os.fsync(file.fileno())


def read_floats(source: GgufFile, tensor: GgufTensor) -> list[float]:
    """The values of a small tensor."""
    return [float(value) for piece in _pieces(source, tensor, None) for value in _floats(tensor, piece).ravel()]


def _header(written: Sequence[_Written]) -> bytes:
    entries = {
        one.name: {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [one.start, one.end]}
        for one in written
    }
    return json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()


def _header_room(source: GgufFile, plan: Sequence[Conversion]) -> int:
    """Bytes that the header takes at most: the types and places of the tensors are known at the end only."""
    widest = [_Written(step.target, "BF16", source.tensors[step.source].shape, _WIDEST, _WIDEST) for step in plan]
    return -(-len(_header(widest)) // 8) * 8


def _dtype(tensor: GgufTensor, step: Conversion) -> str:
    if step.added:
        return "F32"
    return tensor.kind if tensor.kind in _PLAIN else "F16"


def _write_tensor(
    file: BinaryIO, source: GgufFile, tensor: GgufTensor, step: Conversion, place: int, base: int
) -> _Written:
    dtype = _dtype(tensor, step)
    shape = target_shape(step, tensor.shape)
    for attempt in (dtype, "F32"):
        file.seek(base + place)
        try:
            for piece in _converted(source, tensor, step, attempt):
                file.write(piece.data)
        except _TooLarge:
            continue
        size = math.prod(shape) * ITEM_SIZES[attempt]
        return _Written(step.target, attempt, shape, place, place + size)
    raise AssertionError("F32 holds every value")


def _converted(source: GgufFile, tensor: GgufTensor, step: Conversion, dtype: str) -> Iterator[Array]:
    """The target's values in order, contiguous, in the form that safetensors has for ``dtype``."""
    rows = None if step.rows is None else step.rows()
    if step.transposed:
        whole = [_as_dtype(tensor, piece, step, dtype) for piece in _pieces(source, tensor, rows)]
        yield np.ascontiguousarray(np.concatenate(whole).T)
        return
    for piece in _pieces(source, tensor, rows):
        yield np.ascontiguousarray(_as_dtype(tensor, piece, step, dtype))


def _pieces(source: GgufFile, tensor: GgufTensor, order: tuple[int, ...] | None) -> Iterator[Array]:
    """Rows as they are stored, ``[rows, bytes]``, in the order that is asked for."""
    rows = math.prod(tensor.shape[:-1])
    stored = np.frombuffer(source.data(tensor), dtype=np.uint8).reshape(rows, tensor.row_bytes)
    places = None
    if order is not None and len(tensor.shape) > 1:
        places = np.asarray(order)
    elif order is not None:  # a bias: each value is a row of its own
        stored = stored.reshape(len(order), -1)
        places, rows = np.asarray(order), len(order)
    step = max(1, PIECE_ELEMENTS // (tensor.shape[-1] if places is None or len(tensor.shape) > 1 else 1))
    for first in range(0, rows, step):
        chosen = slice(first, first + step) if places is None else places[first : first + step]
        yield stored[chosen]


def _as_dtype(tensor: GgufTensor, piece: Array, step: Conversion, dtype: str) -> Array:
    if tensor.kind == dtype and not step.added:
        same: Array = np.ascontiguousarray(piece).view(_PLAIN[dtype])
        _check_finite(tensor, same)
        return same
    values = _floats(tensor, piece)
    _check_finite(tensor, values)
    if step.added:
        values = values + np.float32(step.added)
    if dtype == "F32":
        return values.astype("<f4", copy=False)
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if not np.isfinite(halves).all():
        raise _TooLarge
    return halves


def _floats(tensor: GgufTensor, piece: Array) -> NDArray[np.float32]:
    contiguous = np.ascontiguousarray(piece)
    if tensor.kind == "BF16":
        return (contiguous.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    if tensor.kind in _PLAIN:
        return contiguous.view(_PLAIN[tensor.kind]).astype(np.float32)
    # Imported here: it takes its time, and only quantised files need it.
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # why: bytes of a hostile file can be any number; what is not finite is refused
        found: NDArray[np.float32] = dequantize(contiguous, GGMLQuantizationType[tensor.kind])
    return found


def _check_finite(tensor: GgufTensor, values: Array) -> None:
    if values.dtype == np.dtype("<u2"):
        sound = not ((values & np.uint16(0x7F80)) == np.uint16(0x7F80)).any()
    else:
        sound = bool(np.isfinite(values).all())
    if not sound:
        raise CheckpointCorrupt(f"{shown(tensor.name)} of the GGUF file has values that are not finite")
