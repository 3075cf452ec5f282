"""Imports a GGUF file into the catalog as a checkpoint in the Hugging Face form, with config, tokenizer and template.

Puts the parts together. Knows nothing of how any of them is read or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minivault.errors import CheckpointCorrupt, UnsupportedCheckpoint
from minivault.models.architecture import read_architecture
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.checkpoint import SINGLE_FILE, Checkpoint, TensorView, file_sha256
from minivault.models.description import MAX_HEAD_DIM
from minivault.models.folder import Progress, StoredFile, check_room, counter
from minivault.models.gguf_config import Metadata, config_of
from minivault.models.gguf_file import GgufFile, GgufTensor
from minivault.models.gguf_names import Conversion, conversions, target_shape
from minivault.models.gguf_tensors import expected_bytes, read_floats, write_checkpoint
from minivault.models.gguf_tokenizer import GgufTokenizer, tokenizer_of
from minivault.models.inspection import check_config
from minivault.models.naming import default_name
from minivault.models.weights import weight_map

ROPE_FACTORS = "rope_freqs.weight"
MAX_ROPE_FACTORS = MAX_HEAD_DIM // 2


def import_gguf(catalog: Catalog, path: Path, name: str | None = None, progress: Progress | None = None) -> ModelEntry:
    """Convert the GGUF file ``path`` and take it into ``catalog`` as ``name`` (default: after the file).

    ``progress`` is called with bytes read and bytes in all.

    Raises:
        InvalidRequest: the name is taken or out of bounds.
        CheckpointError: the file is not sound, or not for the native engine.
        ServerError: too little disk space, or the data directory cannot be written.
    """
    name = catalog.check_free(default_name(path) if name is None else name)
    with GgufFile.open(path) as source:
        meta = Metadata(source.metadata, {tensor.name: tensor.shape for tensor in source.tensors.values()})
        config = config_of(meta, _rope_factors(source))
        check_config(config)
        tokenizer = tokenizer_of(meta)
        plan = list(conversions(meta.architecture, config, meta.tensors))
        _check_shapes(config, source, plan)
        described = {
            "kind": "gguf",
            "file": path.name,
            "size": path.stat().st_size,
            "quantisation": _commonest(source.tensors.values()),
            "licence": _text(source.metadata.get("general.license")),
            "made_from": _text(source.metadata.get("general.name")),
        }

        def fill(staging: Path) -> tuple[Mapping[str, StoredFile], Mapping[str, Any]]:
            return _fill(staging, source, plan, config, tokenizer, progress), {
                **described,
                "sha256": file_sha256(path),
            }

        return catalog.adopt(name, fill)


def _check_shapes(config: Mapping[str, Any], source: GgufFile, plan: list[Conversion]) -> None:
    """Hold every tensor's shape against the config, before anything is made of it.

    Raises:
        CheckpointCorrupt: one is missing, or of another shape.
    """
    try:
        arch = read_architecture(config)
    except UnsupportedCheckpoint:
        return  # why: what another engine runs is for that engine to check
    shapes = {step.target: target_shape(step, source.tensors[step.source].shape) for step in plan}
    views = {name: TensorView("F32", shape, memoryview(b"")) for name, shape in shapes.items()}
    weight_map(arch, Checkpoint(Path(), views, ()))


def _fill(
    staging: Path,
    source: GgufFile,
    plan: list[Conversion],
    config: Mapping[str, Any],
    tokenizer: GgufTokenizer,
    progress: Progress | None,
) -> dict[str, StoredFile]:
    check_room(staging, expected_bytes(source, plan))
    _write(staging / "config.json", config)
    _write(staging / "tokenizer.json", tokenizer.tokenizer)
    _write(staging / "tokenizer_config.json", tokenizer.tokenizer_config)
    _write(staging / "generation_config.json", tokenizer.generation_config)
    if tokenizer.chat_template is not None:
        (staging / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8", newline="")
    total = sum(source.tensors[step.source].size for step in plan)
    write_checkpoint(source, plan, staging / SINGLE_FILE, counter(total, progress))
    return {path.name: _stored(path) for path in sorted(staging.iterdir())}


def _rope_factors(source: GgufFile) -> list[float] | None:
    tensor = source.tensors.get(ROPE_FACTORS)
    if tensor is None:
        return None
    if len(tensor.shape) != 1 or tensor.shape[0] > MAX_ROPE_FACTORS:
        raise CheckpointCorrupt(f"{ROPE_FACTORS} of the GGUF file must have 1 to {MAX_ROPE_FACTORS} values")
    return read_floats(source, tensor)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=None if path.name == "tokenizer.json" else 1)
        file.flush()
        os.fsync(file.fileno())


def _stored(path: Path) -> StoredFile:
    status = path.stat()
    return StoredFile(file_sha256(path), status.st_size, status.st_mtime_ns, status.st_ino)


def _commonest(tensors: Any) -> str:
    """The type that holds most of the bytes: what the file is called after."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        found: GgufTensor = tensor
        sizes[found.kind] = sizes.get(found.kind, 0) + found.size
    return max(sizes, key=sizes.__getitem__, default="none")


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) else None
