"""Everything that can be told of a model without loading it, as plain JSON values.

Reads its small files. Knows nothing of how it is shown.
"""

from __future__ import annotations

from typing import Any

from minivault.errors import CheckpointError
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.chat_template import ChatTemplate
from minivault.models.folder import LICENCE_NAMES
from minivault.models.inspection import sizes_from
from minivault.models.json_file import read_json_object
from minivault.models.listing import SIZES, identity


def facts(entry: ModelEntry) -> dict[str, Any]:
    """What the catalog's list says of a model."""
    return identity(entry) | {"path": str(entry.path)}


def details(catalog: Catalog, name: str) -> dict[str, Any]:
    """All of :func:`facts`, sizes (those that the native engine can read), template, source, licence and files.

    Raises:
        UnknownModel: there is none of this name.
        CheckpointCorrupt: its files changed since it was imported, or are gone.
    """
    entry = catalog.get(name)
    manifest = catalog.manifest(name)
    files = {} if manifest is None else manifest.files
    licences = [file for file in LICENCE_NAMES if (entry.path / file).is_file()]
    return {
        **facts(entry),
        **_sizes(entry),
        "template": _template(entry),
        "source": None if manifest is None else dict(manifest.source) or None,
        "licence_files": licences,
        "files": {file: {"size": found.size, "sha256": found.sha256} for file, found in sorted(files.items())},
    }


def _sizes(entry: ModelEntry) -> dict[str, int | None]:
    try:
        arch = sizes_from(read_json_object(entry.whole.path / "config.json"))
    except CheckpointError:  # another engine's model says what it is in other words
        return dict.fromkeys(SIZES)
    return {size: getattr(arch, size) for size in SIZES}


def _template(entry: ModelEntry) -> str | None:
    try:
        template = ChatTemplate.load(entry.whole.path)  # shown and not rendered, it needs no tokenizer
    except CheckpointError:
        return None
    return None if template is None else template.source
