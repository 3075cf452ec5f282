"""Opens safetensors checkpoints, single or sharded, as memory-mapped views.

Every bound is checked before anything is allocated or mapped: a file that is truncated, or that lies about its header,
offsets or shapes, is a clear error. Knows nothing of what the tensors are for.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.files import PLAIN
from minivault.models.json_file import parse_json_object, read_json_object, shortage_in, shown

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

MAX_HEADER_BYTES = 100_000_000
"""The format's own cap."""
MAX_RANK = 8
MAX_SHARDS = 1000

ITEM_SIZES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes per element of each dtype of the format."""


@dataclass(frozen=True, slots=True)
class TensorView:
    """One tensor, little-endian and row-major, as it lies in the mapped file. ``data`` dies with its checkpoint."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(slots=True)
class Checkpoint:
    """The tensors of one folder by the names that the files give them. Owns the mappings until :meth:`close`."""

    folder: Path
    tensors: Mapping[str, TensorView]
    files: tuple[str, ...]
    """Names of the files that :meth:`digest` covers, sorted."""
    _maps: list[mmap.mmap] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the checkpoint in ``folder``.

        Raises:
            CheckpointCorrupt: files are missing, truncated, overlapping, or lie about themselves.
            UnsupportedCheckpoint: the folder holds weights in another format only.
        """
        if (folder / SINGLE_FILE).exists():
            wanted: dict[str, list[str] | None] = {SINGLE_FILE: None}
        elif (folder / INDEX_FILE).exists():
            wanted = dict(read_index(folder / INDEX_FILE))
        else:
            raise _no_weights(folder)
        files = [*wanted, *(name for name in (INDEX_FILE, "config.json") if _digested(folder, name, wanted))]
        opened = cls(folder, {}, tuple(sorted(files)))
        tensors: dict[str, TensorView] = {}
        try:
            for name, listed in wanted.items():
                mapped, views = _open_file(folder / name)
                opened._maps.append(mapped)
                tensors |= views if listed is None else _select(views, listed, name)
        except BaseException:
            opened.close()
            raise
        opened.tensors = tensors
        return opened

    @classmethod
    def open_file(cls, folder: Path, name: str) -> Self:
        """Map the one safetensors file ``name``.

        Raises:
            CheckpointCorrupt: it is missing, truncated, or lies about itself.
        """
        mapped, views = _open_file(folder / name)
        return cls(folder, views, (name,), [mapped])

    def digest(self) -> str:
        """``sha256:`` and 64 hex digits of what ``sha256sum`` prints for :attr:`files` in this order.

        Covers ``config.json`` beside the weights: both decide what the checkpoint computes.
        """
        return files_digest(self.folder, self.files)

    def close(self) -> None:
        """Unmap. A mapping that an array still looks into lives until that array is gone. Idempotent."""
        for view in self.tensors.values():
            _release(view.data)
        self.tensors = {}
        maps, self._maps = self._maps, []
        for mapped in maps:
            try:
                mapped.close()
            except BufferError:  # why not insist: the array's owner still reads it, and unmapping would crash it
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def files_digest(folder: Path, names: tuple[str, ...]) -> str:
    """``sha256:`` of the lines ``<sha256 of file>  <name>`` of ``names`` in ``folder``, in that order."""
    lines = "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """64 hex digits; reads the file in pieces."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise shortage_in(error) or CheckpointCorrupt(f"{shown(path.name)} cannot be read: {error.strerror}") from None


def weight_files(folder: Path) -> tuple[str, ...]:
    """The safetensors files that :meth:`Checkpoint.open` would read from ``folder``, and the index if there is one.

    Raises:
        CheckpointCorrupt: the index is not sound.
        UnsupportedCheckpoint: the folder holds weights in another format only.
    """
    if (folder / SINGLE_FILE).exists():
        return (SINGLE_FILE,)
    if (folder / INDEX_FILE).exists():
        return (*read_index(folder / INDEX_FILE), INDEX_FILE)
    raise _no_weights(folder)


def _digested(folder: Path, name: str, wanted: Mapping[str, object]) -> bool:
    return (name != INDEX_FILE or SINGLE_FILE not in wanted) and (folder / name).is_file()


def _no_weights(folder: Path) -> CheckpointCorrupt | UnsupportedCheckpoint:
    if not folder.is_dir():
        return CheckpointCorrupt("The model folder is missing or not a folder")
    suffixes = {path.suffix for path in folder.iterdir()}
    others = sorted(suffixes & {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx"})
    if others:
        found = ", ".join(others)
        return UnsupportedCheckpoint(f"Weights are read from safetensors files only (pickle never); found {found}")
    return CheckpointCorrupt(f"The folder has neither {SINGLE_FILE} nor {INDEX_FILE}")


def read_index(path: Path) -> dict[str, list[str]]:
    """Shard file names, sorted, with the tensor names that the index places in each."""
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointCorrupt(f"{INDEX_FILE}: weight_map must be a non-empty object")
    shards: dict[str, list[str]] = {}
    for tensor, file_name in weight_map.items():
        plain = isinstance(file_name, str) and is_plain_file_name(file_name)
        if not plain or not file_name.endswith(".safetensors"):
            raise CheckpointCorrupt(f"{INDEX_FILE}: {shown(tensor)} must be in a *.safetensors file beside the index")
        shards.setdefault(file_name, []).append(tensor)
    if len(shards) > MAX_SHARDS:
        raise CheckpointCorrupt(f"{INDEX_FILE}: at most {MAX_SHARDS} shards")
    return dict(sorted(shards.items()))


def is_plain_file_name(name: str) -> bool:
    """Whether ``name`` stays in its folder: printable, no separator, no leading dot, at most 200 characters."""
    return 0 < len(name) <= 200 and name.isprintable() and name[0] != "." and not set(name) & set('/\\:"<>|?*')


def _select(views: Mapping[str, TensorView], listed: list[str], file_name: str) -> dict[str, TensorView]:
    missing = [name for name in listed if name not in views]
    if missing:
        raise CheckpointCorrupt(f"{INDEX_FILE} places {shown(missing[0])} in {shown(file_name)}, which lacks it")
    return {name: views[name] for name in listed}


def _open_file(path: Path) -> tuple[mmap.mmap, dict[str, TensorView]]:
    what = shown(path.name)
    try:
        descriptor = os.open(path, os.O_RDONLY | PLAIN)
    except OSError as error:
        raise shortage_in(error) or CheckpointCorrupt(f"{what} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointCorrupt(f"{what} is not a regular file")
        entries, data_start = _read_header(descriptor, status.st_size, what)
        mapped = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise shortage_in(error) or CheckpointCorrupt(f"{what} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    whole = memoryview(mapped)
    views = {
        entry.name: TensorView(entry.dtype, entry.shape, whole[data_start + entry.start : data_start + entry.end])
        for entry in entries
    }
    whole.release()
    return mapped, views


def _read_header(descriptor: int, file_size: int, what: str) -> tuple[list[_Entry], int]:
    """The entries in file order and where the data begins."""
    head = os.read(descriptor, 8)
    if len(head) < 8:
        raise CheckpointCorrupt(f"{what} is truncated: it has no header")
    length = int.from_bytes(head, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointCorrupt(f"{what}: the header must be at most {MAX_HEADER_BYTES} bytes")
    if 8 + length > file_size:
        raise _truncated(what, 8 + length, file_size)
    header = os.read(descriptor, length)
    if len(header) != length:
        raise CheckpointCorrupt(f"{what} is truncated inside its header")
    entries = list(parse_entries(header, what))
    _check_layout(entries, 8 + length, file_size, what)
    return entries, 8 + length


def parse_entries(header: bytes, what: str) -> Iterator[_Entry]:
    """The entries of a safetensors header, each sound in itself, ordered by where its data begins."""
    fields = parse_json_object(header, f"{what}: the header")
    fields.pop("__metadata__", None)
    entries = [_parse_entry(name, value, what) for name, value in fields.items()]
    return iter(sorted(entries, key=lambda entry: (entry.start, entry.end)))


def _parse_entry(name: str, value: Any, what: str) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointCorrupt(f"{what}: {shown(name)} must have dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise CheckpointCorrupt(f"{what}: {shown(name)} has an unknown dtype; known are {', '.join(ITEM_SIZES)}")
    if not _counts(shape) or len(shape) > MAX_RANK:
        raise CheckpointCorrupt(f"{what}: {shown(name)}: shape must be at most {MAX_RANK} counts")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointCorrupt(f"{what}: {shown(name)}: data_offsets must be two offsets in order")
    size = ITEM_SIZES[dtype]
    for count in shape:
        size *= count
    if offsets[1] - offsets[0] != size:
        raise CheckpointCorrupt(f"{what}: {shown(name)}: shape and dtype do not match the bytes it is given")
    return _Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(count) is int and 0 <= count < 1 << 63 for count in value)


def _check_layout(entries: list[_Entry], data_start: int, file_size: int, what: str) -> None:
    position = 0
    for entry in entries:
        if entry.start != position:
            raise CheckpointCorrupt(f"{what}: {shown(entry.name)} overlaps or leaves a gap")
        position = entry.end
    end = data_start + position
    if end > file_size:
        raise _truncated(what, end, file_size)
    if end < file_size:
        raise CheckpointCorrupt(
            f"{what}: its header tells of {end} bytes, and the file has {file_size}: the rest belongs to no tensor"
        )


def _truncated(what: str, told: int, held: int) -> CheckpointCorrupt:
    return CheckpointCorrupt(f"{what} is truncated: its header tells of {told} bytes, and the file has {held}")


def _release(view: memoryview) -> None:
    try:
        view.release()
    except BufferError:  # an array looks into it; see Checkpoint.close
        return
