"""Writes small safetensors files and model folders for tests, by hand and so that they can be made wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.oracle.golden import folder_of

Header = dict[str, Any]


def safetensors_bytes(header: Any, data: bytes, *, length: int | None = None) -> bytes:
    """A file with this header (JSON value or raw bytes); ``length`` lies about the header's size."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def write_checkpoint(folder: Path, header: Any, data: bytes, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header, data, **changes))
    return folder


def copy_of(case: str, folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """A copy of an oracle checkpoint, with changes to its config.json."""
    shutil.copytree(folder_of(case), folder)
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(config)))
    return folder


def edit_tensors(folder: Path, change: Any, file: str = "model.safetensors") -> None:
    """Rewrite ``file`` after ``change(tensors)``, where tensors maps names to (dtype, shape, bytes)."""
    path = folder / file
    stored = path.read_bytes()
    length = int.from_bytes(stored[:8], "little")
    header, data = json.loads(stored[8 : 8 + length]), stored[8 + length :]
    header.pop("__metadata__", None)
    tensors = {
        name: (facts["dtype"], facts["shape"], data[slice(*facts["data_offsets"])]) for name, facts in header.items()
    }
    change(tensors)
    rewritten: Header = {}
    pieces = b""
    for name, (dtype, shape, piece) in tensors.items():
        rewritten[name] = entry(len(pieces), len(pieces) + len(piece), shape, dtype)
        pieces += piece
    path.write_bytes(safetensors_bytes(rewritten, pieces))
