"""``minivault.json`` of a model in the data directory: what it is, where it came from, and what its files hashed to.

Knows nothing of catalogs, engines or networks.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from minivault.errors import CheckpointCorrupt
from minivault.models.checkpoint import is_plain_file_name
from minivault.models.folder import StoredFile, digest_of, write_manifest
from minivault.models.inspection import ENGINES, KINDS, Examined
from minivault.models.json_file import read_json_object

MANIFEST = "minivault.json"
PUT_BY_HAND = (
    "Remove it: minivault models rm NAME; or move it elsewhere, and take it in from there: minivault models import PATH"
)
"""What to do about a folder among the models that no import made."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that is kept about one model beside its files."""

    name: str
    examined: Examined
    imported_at: str
    """UTC, RFC 3339, ``Z``."""
    files: Mapping[str, StoredFile]
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where it came from, as plain JSON: ``kind`` is ``folder``, ``hub`` or ``gguf``. Empty of older imports."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Raises:
            CheckpointCorrupt: it is not there or not sound.
        """
        if folder.is_dir() and not (folder / MANIFEST).exists():
            raise CheckpointCorrupt(f"This folder was not imported, or has lost its {MANIFEST}. {PUT_BY_HAND}")
        stored = read_json_object(folder / MANIFEST)
        try:
            engine, kind = stored.get("engine", "native"), stored.get("kind", "generation")
            found = cls(
                name=folder.name,
                examined=Examined(engine, kind, str(stored["family"]), int(stored["parameters"])),
                imported_at=str(stored["imported_at"]),
                files={file: StoredFile.from_json(facts) for file, facts in stored["files"].items()},
                source=dict(stored.get("source") or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _not_sound() from None
        if not all(map(is_plain_file_name, found.files)) or engine not in ENGINES or kind not in KINDS:
            raise _not_sound()
        return found

    def write(self, folder: Path) -> None:
        """
        Raises:
            OSError: writing failed; what was there before still is.
        """
        write_manifest(folder / MANIFEST, self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "name": self.name,
            "family": self.examined.family,
            "parameters": self.examined.parameters,
            "engine": self.examined.engine,
            "kind": self.examined.kind,
            "imported_at": self.imported_at,
            "source": dict(self.source),
            "files": {name: self.files[name].to_json() for name in sorted(self.files)},
        }

    def digest(self, weights: tuple[str, ...]) -> str:
        """As ``Checkpoint.digest``, from the hashes that are written here; ``weights`` are the files with weights.

        Raises:
            CheckpointCorrupt: one of them is not listed.
        """
        covered = sorted({*weights, "config.json"})
        if not self.files.keys() >= set(covered):
            raise _not_sound()
        return digest_of({name: self.files[name] for name in covered})

    def adapter_digest(self) -> str:
        """Of an adapter's own files, from the hashes that are written here.

        Raises:
            CheckpointCorrupt: one of them is not listed.
        """
        if not self.files.keys() >= set(ADAPTER_FILES):
            raise _not_sound()
        return digest_of({name: self.files[name] for name in ADAPTER_FILES})

    def checked(self, folder: Path) -> Self:
        """This manifest as the files are now; they are hashed only where they look touched, and that is remembered.

        Raises:
            CheckpointCorrupt: a file is gone, or its content changed.
        """
        found = {name: facts.checked(folder / name) for name, facts in self.files.items()}
        if found == self.files:
            return self
        renewed = replace(self, files=found)
        with contextlib.suppress(OSError):  # why: a data directory that cannot be written can still be served from
            renewed.write(folder)
        return renewed


def combined_digest(base: str, adapter: str) -> str:
    """``sha256:`` of a base's digest and an adapter's, a line each: what the two compute together."""
    return "sha256:" + hashlib.sha256(f"{base}\n{adapter}\n".encode()).hexdigest()


def _not_sound() -> CheckpointCorrupt:
    return CheckpointCorrupt(f"{MANIFEST} of this model is not sound: remove the model and import it again")
