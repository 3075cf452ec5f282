"""Adapters in the catalog: taken in beside their base as ``BASE:NAME``, checked against it first.

Knows nothing of engines or requests.
"""

from __future__ import annotations

from pathlib import Path

from minivault.errors import CheckpointCorrupt, InvalidRequest, ServerError, UnsupportedCheckpoint
from minivault.models.adapter import CONFIG, WEIGHTS, opened_adapter, read_config
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.folder import (
    LICENCE_NAMES,
    Progress,
    copy_files,
    publish,
    staging_folder,
    transferable,
)
from minivault.models.inspection import Examined
from minivault.models.manifest import MANIFEST, Manifest
from minivault.models.naming import ADAPTER_MARK, RESERVED, adapter_of, check_name, default_name


def add_adapter(
    catalog: Catalog, base: str, source: Path, name: str | None = None, progress: Progress | None = None
) -> ModelEntry:
    """Take in the adapter in the folder ``source`` for the model ``base``, as ``base:name`` (default: the folder's).

    Raises:
        UnknownModel: there is no such base.
        InvalidRequest: the name is taken or out of bounds, ``source`` is not a folder, or ``base`` is an adapter.
        CheckpointError: the adapter is not sound, does not fit the base, or asks for what is not supported.
        ServerError: too little disk space, or the data directory cannot be written.
    """
    entry = catalog.get(base)
    if adapter_of(entry.name) is not None:
        raise InvalidRequest("an adapter is added to a model, not to another adapter", param="model")
    if (entry.engine, entry.kind) != ("native", "generation"):
        raise UnsupportedCheckpoint("Adapters are for models that answer on the native engine")
    if not source.is_dir():
        raise InvalidRequest(f"path must be a folder with {CONFIG} and {WEIGHTS}", param="path")
    short = default_name(source) if name is None else name
    full = free_name(catalog, entry.name, short)
    read_config(source)
    parameters = _parameters(source, entry)
    files = transferable(source, (WEIGHTS, CONFIG))
    kept = [file for file in files if file in (WEIGHTS, CONFIG, *LICENCE_NAMES)]
    try:
        with staging_folder(catalog.models_dir, full) as staging:
            stored = copy_files(source, kept, staging, progress)
            if _parameters(staging, entry) != parameters:
                raise CheckpointCorrupt("The folder changed while it was copied")
            found = Examined("native", "generation", entry.family, parameters)
            added = catalog.now().isoformat(timespec="seconds").replace("+00:00", "Z")
            manifest = Manifest(full, found, added, stored, {"kind": "adapter", "base": entry.name})
            publish(staging, catalog.models_dir / full, MANIFEST, manifest.to_json())
    except OSError as error:
        if (catalog.models_dir / full).exists():
            raise InvalidRequest("this model has an adapter of this name already", param="name") from None
        raise ServerError(f"The adapter cannot be stored in the data directory: {error.strerror}") from None
    return catalog.get(full)


def free_name(catalog: Catalog, base: str, short: str) -> str:
    """``base:short``, if an adapter can be called so and none is.

    Raises:
        InvalidRequest: it cannot, or one is.
    """
    if check_name(short) in RESERVED:
        raise InvalidRequest(f"name must not be {' or '.join(RESERVED)}: it says no adapter elsewhere", param="name")
    full = base + ADAPTER_MARK + short
    if (catalog.models_dir / full).exists():
        raise InvalidRequest("this model has an adapter of this name already: choose another with --name", param="name")
    return full


def _parameters(folder: Path, base: ModelEntry) -> int:
    with opened_adapter(folder, base.path) as adapter:
        return adapter.parameters
