"""What is told of a model of the catalog: who it is, how large, how it is built. Knows nothing of what is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from minivault.errors import MiniVaultError
from minivault.models.catalog import ModelEntry
from minivault.models.inspection import sizes_from
from minivault.models.json_file import read_optional_json_object

SIZES = ("context_length", "hidden_size", "layers", "attention_heads", "kv_heads", "vocab_size")


def identity(entry: ModelEntry) -> dict[str, Any]:
    """Who it is and how large, as the catalog knows it."""
    return {
        "name": entry.name,
        "embedded": entry.embedded,
        "family": entry.family,
        "kind": entry.kind,
        "engine": entry.engine,
        "parameters": entry.parameters,
        "size_bytes": entry.size_bytes,
        "digest": entry.digest,
        "imported_at": entry.imported_at,
    }


def listed(entry: ModelEntry, *, default: bool) -> dict[str, Any]:
    """One object of ``GET /models``, but for the state."""
    return {"name": entry.name, "default": default} | identity(entry) | {"modified_at": _modified(entry)}


def described(entry: ModelEntry) -> dict[str, Any]:
    """Its sizes, 0 where its configuration does not say."""
    config = entry.whole.path / "config.json"
    try:
        arch = sizes_from(read_optional_json_object(config))
        sizes = {name: getattr(arch, name) for name in SIZES}
    except MiniVaultError:  # not for the native engine
        sizes = dict.fromkeys(SIZES, 0)
    return sizes


def _modified(entry: ModelEntry) -> str:
    """Since when it is as it is: of the embedded model since this version was installed."""
    if entry.imported_at is not None:
        return entry.imported_at
    try:
        at = (entry.path / "config.json").stat().st_mtime
    except OSError:  # installed anew, or taken away, while it is in memory
        at = 0
    changed = datetime.fromtimestamp(at, UTC)
    return changed.isoformat(timespec="milliseconds").replace("+00:00", "Z")
