"""Reads the header of a GGUF file: its metadata, and where each tensor lies.

Every count, length and offset is held against the file's size before anything of that size is made: a file that is
truncated or lies about itself is a clear error. Reads no tensor. Knows nothing of what metadata and tensors mean.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.json_file import shown

MAX_HEADER_BYTES = 256 << 20
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_VALUES = 1 << 23
"""Elements of all arrays together: vocabularies have a quarter of a million tokens."""
MAX_NAME_BYTES = 65_535
MAX_RANK = 4

BLOCKS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
}  # fmt: skip
"""Of each type of tensor that is read: its name, the elements of a block and its bytes."""

_SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies. ``shape`` is row-major, as NumPy has it: the reverse of what the file says."""

    name: str
    kind: str
    """A name of :data:`BLOCKS`."""
    shape: tuple[int, ...]
    start: int
    """Of its bytes in the file."""
    size: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row: of everything along the last axis."""
        return self.size // max(1, math.prod(self.shape[:-1]))


@dataclass(slots=True)
class GgufFile:
    """A mapped GGUF file. Owns the mapping until :meth:`close`."""

    metadata: Mapping[str, Any]
    """Numbers, booleans, strings, and tuples of these."""
    tensors: Mapping[str, GgufTensor]
    _mapped: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> Self:
        """
        Raises:
            CheckpointCorrupt: truncated, or lying about counts, lengths or offsets.
            UnsupportedCheckpoint: a version or a type of tensor that is not read.
        """
        mapped = _map(path)
        try:
            reader = _Reader(mapped, len(mapped))
            tensor_count, key_count = _counts(reader)
            metadata = _metadata(reader, key_count)
            tensors = _tensors(reader, tensor_count, metadata, len(mapped))
        except BaseException:
            mapped.close()
            raise
        return cls(metadata, tensors, mapped)

    def data(self, tensor: GgufTensor) -> memoryview:
        """The tensor's bytes. Release it before :meth:`close`."""
        return memoryview(self._mapped)[tensor.start : tensor.start + tensor.size]

    def close(self) -> None:
        """Unmap. A mapping that an array still looks into lives until that array is gone."""
        # why not insist: while an error is on its way, its frames hold arrays, and unmapping would crash who reads them
        with contextlib.suppress(BufferError):
            self._mapped.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _map(path: Path) -> mmap.mmap:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise CheckpointCorrupt(f"The GGUF file cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointCorrupt("The GGUF file is not a regular file")
        if status.st_size < 24:
            raise CheckpointCorrupt("The GGUF file is truncated: it has no header")
        return mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointCorrupt(f"The GGUF file cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


class _Reader:
    """A place in the file that moves on; never beyond its end or the cap on headers."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._end = min(size, MAX_HEADER_BYTES)
        self._values = 0
        self.place = 0

    def numbers(self, form: str, count: int = 1) -> tuple[Any, ...]:
        self._values += count
        if count > MAX_VALUES or self._values > MAX_VALUES:
            raise CheckpointCorrupt(f"The GGUF file has more than {MAX_VALUES} values in its metadata")
        start = self._step(struct.calcsize(f"<{form}") * count)
        return struct.unpack_from(f"<{count}{form}", self._data, start)

    def number(self, form: str) -> Any:
        return self.numbers(form)[0]

    def text(self, most: int = MAX_HEADER_BYTES) -> str:
        length = self.number("Q")
        if length > most:
            raise CheckpointCorrupt("The GGUF file has a text that is longer than it may be")
        start = self._step(length)
        try:
            # why: some vocabularies hold parts of characters as if they were text
            return self._data[start : self.place].decode("utf-8", "strict" if most == MAX_NAME_BYTES else "replace")
        except UnicodeDecodeError:
            raise CheckpointCorrupt("The GGUF file has a name that is not UTF-8") from None

    def _step(self, size: int) -> int:
        start = self.place
        if size > self._end - start:
            raise CheckpointCorrupt("The GGUF file is truncated, or its header lies about a length")
        self.place = start + size
        return start


def _counts(reader: _Reader) -> tuple[int, int]:
    magic, version = reader.number("I"), reader.number("I")
    if magic != int.from_bytes(b"GGUF", "little"):
        raise CheckpointCorrupt("This is not a GGUF file")
    if version not in (2, 3):
        raise UnsupportedCheckpoint("This version of GGUF is not read; supported: little-endian versions 2 and 3")
    tensors, keys = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise CheckpointCorrupt(f"The GGUF file has more than {MAX_TENSORS} tensors or {MAX_KEYS} keys")
    return tensors, keys


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = reader.text(MAX_NAME_BYTES)
        if key in found:
            raise CheckpointCorrupt(f"The GGUF file has the key {shown(key)} twice")
        found[key] = _value(reader, reader.number("I"))
    return found


def _value(reader: _Reader, kind: int) -> Any:
    if kind == _STRING:
        return reader.text()
    if kind == _ARRAY:
        return _array(reader)
    if kind not in _SCALARS:
        raise CheckpointCorrupt("The GGUF file has a value of an unknown type")
    return reader.number(_SCALARS[kind])


def _array(reader: _Reader) -> tuple[Any, ...]:
    kind, count = reader.number("I"), reader.number("Q")
    if kind == _STRING:
        if count > MAX_VALUES:
            raise CheckpointCorrupt(f"The GGUF file has more than {MAX_VALUES} values in its metadata")
        return tuple([reader.text() for _ in range(count)])
    if kind not in _SCALARS:
        raise CheckpointCorrupt("The GGUF file has an array of an unknown type")
    return reader.numbers(_SCALARS[kind], count)


def _tensors(reader: _Reader, count: int, metadata: Mapping[str, Any], file_size: int) -> dict[str, GgufTensor]:
    entries = [_entry(reader) for _ in range(count)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise CheckpointCorrupt("general.alignment of the GGUF file must be a power of two up to 65536")
    base = -(-reader.place // alignment) * alignment
    found: dict[str, GgufTensor] = {}
    end = base
    for name, kind, shape, offset in sorted(entries, key=lambda entry: entry[3]):
        size = _size(name, kind, shape)
        start = base + offset
        if offset % alignment or start < end or start + size > file_size:
            raise CheckpointCorrupt(f"{shown(name)} of the GGUF file overlaps another, or lies beyond the file's end")
        if name in found:
            raise CheckpointCorrupt(f"The GGUF file has the tensor {shown(name)} twice")
        found[name] = GgufTensor(name, BLOCKS[kind][0], shape, start, size)
        end = start + size
    return found


def _entry(reader: _Reader) -> tuple[str, int, tuple[int, ...], int]:
    name, rank = reader.text(MAX_NAME_BYTES), reader.number("I")
    if not 1 <= rank <= MAX_RANK:
        raise CheckpointCorrupt(f"{shown(name)} of the GGUF file must have 1 to {MAX_RANK} dimensions")
    shape = tuple(reversed(reader.numbers("Q", rank)))
    kind, offset = reader.number("I"), reader.number("Q")
    if kind not in BLOCKS:
        known = ", ".join(block[0] for block in BLOCKS.values())
        raise UnsupportedCheckpoint(f"{shown(name)} of the GGUF file has a type that is not read; supported: {known}")
    return name, kind, shape, offset


def _size(name: str, kind: int, shape: tuple[int, ...]) -> int:
    _, elements, size = BLOCKS[kind]
    if shape[-1] % elements or min(shape) < 1:
        raise CheckpointCorrupt(f"{shown(name)} of the GGUF file has a shape that its type cannot have")
    return math.prod(shape) // elements * size
