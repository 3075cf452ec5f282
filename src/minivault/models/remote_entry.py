"""Models that other servers run, in the catalog: a manifest without files. No credential is kept.

Knows nothing of HTTP, nor of whether the servers are there.
"""

from __future__ import annotations

from minivault.errors import CheckpointCorrupt, InvalidRequest, ServerError
from minivault.models.catalog import EMBEDDED_NAME, Catalog, ModelEntry
from minivault.models.folder import publish, staging_folder
from minivault.models.inspection import Examined
from minivault.models.manifest import MANIFEST, Manifest
from minivault.models.naming import check_name
from minivault.models.remote_config import RemoteConfig

FAMILY = "remote"


def add_remote(catalog: Catalog, name: str, config: RemoteConfig) -> ModelEntry:
    """Take in, as ``name``, a model that other servers run.

    Raises:
        InvalidRequest: the name is taken or out of bounds.
        ServerError: the data directory cannot be written.
    """
    if check_name(name) in catalog.names() or (catalog.models_dir / name).exists():
        raise _taken(name)
    added_at = catalog.now().isoformat(timespec="seconds").replace("+00:00", "Z")
    source = {"kind": "remote", **config.to_json()}
    manifest = Manifest(name, Examined("remote", "generation", FAMILY, 0), added_at, {}, source)
    try:
        with staging_folder(catalog.models_dir, name) as staging:
            publish(staging, catalog.models_dir / name, MANIFEST, manifest.to_json())
    except OSError as error:
        if (catalog.models_dir / name).exists():  # another of this name was faster
            raise _taken(name) from None
        raise ServerError(f"The model cannot be stored in the data directory: {error.strerror}") from None
    return catalog.get(name)


def _taken(name: str) -> InvalidRequest:
    instead = "" if name == EMBEDDED_NAME else f", or remove that one first: minivault models rm {name}"
    return InvalidRequest(f"a model of this name exists already: choose another NAME{instead}", param="name")


def remote_config(entry: ModelEntry) -> RemoteConfig:
    """Where the servers of ``entry`` are, and how patient to be.

    Raises:
        CheckpointCorrupt: the manifest is not sound.
    """
    try:
        return RemoteConfig.from_json(Manifest.read(entry.path).source)
    except (InvalidRequest, KeyError, TypeError, ValueError):
        raise CheckpointCorrupt(f"{MANIFEST} of this model is not sound: remove it and add it again") from None
