"""Imports what lies on this machine: a Hugging Face folder, or a GGUF file.

Tells the two apart and passes on. Knows nothing of who asks.
"""

from __future__ import annotations

from pathlib import Path

from minivault.errors import InvalidRequest
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.folder import Progress


def import_path(catalog: Catalog, path: Path, name: str | None = None, progress: Progress | None = None) -> ModelEntry:
    """Take ``path`` into ``catalog`` as ``name`` (default: after the path).

    Raises:
        InvalidRequest: the name is taken or out of bounds, or ``path`` is neither a folder nor a GGUF file.
        CheckpointError: it is not sound, or no engine here can run it.
        ServerError: too little disk space, or the data directory cannot be written.
    """
    if path.is_dir():
        return catalog.import_folder(path, name, progress)
    if path.suffix.lower() == ".gguf" and path.is_file():
        # Imported here: it brings NumPy along, which a folder does not need.
        from minivault.models.gguf_import import import_gguf

        return import_gguf(catalog, path, name, progress)
    raise InvalidRequest("path must be a folder with config.json and safetensors files, or a .gguf file", param="path")
