"""The models that can be asked for: the embedded one, and those imported into the data directory.

An import is checked before it is copied, copied beside, and appears under its name at once and whole. Only safetensors,
JSON, text and template files are taken; nothing here ever reaches a network. Knows nothing of engines or requests.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minivault
from minivault.errors import CheckpointCorrupt, InvalidRequest, MiniVaultError, ServerError, UnknownModel
from minivault.models.architecture import Architecture, read_architecture
from minivault.models.chat_template import ChatTemplate
from minivault.models.checkpoint import Checkpoint, is_plain_file_name, weight_files
from minivault.models.folder import (
    Progress,
    StoredFile,
    copy_files,
    digest_of,
    publish,
    staging_folder,
    transferable,
    write_manifest,
)
from minivault.models.json_file import read_json_object
from minivault.models.tokenizer import Tokenizer
from minivault.models.weights import weight_map

EMBEDDED_NAME = "guide"
MANIFEST = "minivault.json"
MAX_NAME = 100
ENGINES = ("native", "transformers", "remote")
KINDS = ("generation", "embedding")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CLOSEST = 3


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalog. Its files are where ``path`` says; nothing of it is loaded."""

    name: str
    path: Path
    family: str
    """``model_type`` of its config.json."""
    parameters: int
    size_bytes: int
    """Of the weight files."""
    digest: str
    """``sha256:...`` as :meth:`Checkpoint.digest` defines it."""
    embedded: bool
    imported_at: str | None
    """UTC, RFC 3339, ``Z``; ``None`` for the embedded model."""
    engine: str = "native"
    """What runs it: one of :data:`ENGINES`."""
    kind: str = "generation"
    """What it is asked for: one of :data:`KINDS`."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models of one data directory. ``now`` gives the time in UTC."""

    models_dir: Path
    embedded_dir: Path = Path(minivault.__file__).parent / "guide"
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)

    def list(self) -> list[ModelEntry]:
        """Every model that can be served: the embedded one, then by name. Broken ones are left out."""
        entries = []
        for name in self._names():
            try:
                entries.append(self.get(name))
            except MiniVaultError:
                continue
        return entries

    def get(self, name: str) -> ModelEntry:
        """The model called ``name``.

        Raises:
            UnknownModel: there is none; names the closest that there are.
            CheckpointCorrupt: its files changed since it was imported, or are gone.
        """
        if name not in self._names():
            raise self._unknown(name)
        return self._embedded() if name == EMBEDDED_NAME else self._imported(name)

    def import_folder(self, source: Path, name: str | None = None, progress: Progress | None = None) -> ModelEntry:
        """Copy the Hugging Face folder ``source`` into the catalog as ``name`` (default: after the folder).

        ``progress`` is called with bytes copied and bytes in all.

        Raises:
            InvalidRequest: the name is taken or out of bounds, or ``source`` is not a folder.
            CheckpointError: the folder is not sound, or not for the native engine.
            ServerError: too little disk space, or the data directory cannot be written.
        """
        if not source.is_dir():
            raise InvalidRequest("path must be a folder with config.json and safetensors files", param="path")
        name = check_name(default_name(source) if name is None else name)
        if name in self._names() or (self.models_dir / name).exists():
            raise _taken()
        files = transferable(source, weight_files(source))
        arch = inspect_folder(source)
        try:
            with staging_folder(self.models_dir, name) as staging:
                stored = copy_files(source, files, staging, progress)
                if inspect_folder(staging) != arch:
                    raise CheckpointCorrupt("The folder changed while it was copied")
                publish(staging, self.models_dir / name, MANIFEST, self._manifest(name, staging, arch, stored))
        except OSError as error:
            if (self.models_dir / name).exists():  # another import of this name was faster
                raise _taken() from None
            raise ServerError(f"The model cannot be stored in the data directory: {error.strerror}") from None
        return self.get(name)

    def _manifest(
        self, name: str, staging: Path, arch: Architecture, stored: Mapping[str, StoredFile]
    ) -> dict[str, Any]:
        return {
            "format": 1,
            "name": name,
            "family": read_json_object(staging / "config.json")["model_type"],
            "parameters": arch.parameters,
            "engine": "native",
            "kind": "generation",
            "imported_at": self.now().isoformat(timespec="seconds").replace("+00:00", "Z"),
            "files": {file: stored[file].to_json() for file in sorted(stored)},
        }

    def _names(self) -> tuple[str, ...]:
        found = sorted(path.parent.name for path in self.models_dir.glob(f"*/{MANIFEST}"))
        return (EMBEDDED_NAME, *(name for name in found if _NAME.fullmatch(name) and name != EMBEDDED_NAME))

    def _unknown(self, name: str) -> UnknownModel:
        names = self._names()
        closest = difflib.get_close_matches(name.lower()[:MAX_NAME], names, n=_CLOSEST, cutoff=0.3) or names[:_CLOSEST]
        return UnknownModel(
            f"There is no model of this name here; the closest: {', '.join(closest)}. "
            "Add one with: minivault models import PATH --name NAME",
            param="model",
        )

    def _embedded(self) -> ModelEntry:
        path = self.embedded_dir
        config = read_json_object(path / "config.json")
        with Checkpoint.open(path) as checkpoint:
            digest = checkpoint.digest()
            size = sum((path / file).stat().st_size for file in checkpoint.files if file.endswith(".safetensors"))
        parameters = read_architecture(config).parameters
        return ModelEntry(EMBEDDED_NAME, path, config["model_type"], parameters, size, digest, True, None)

    def _imported(self, name: str) -> ModelEntry:
        path = self.models_dir / name
        manifest = read_json_object(path / MANIFEST)
        try:
            stored = {file: StoredFile.from_json(facts) for file, facts in manifest["files"].items()}
            family, parameters, imported_at = manifest["family"], manifest["parameters"], manifest["imported_at"]
            covered = sorted({*weight_files(path), "config.json"})
            digest = digest_of({file: stored[file] for file in covered})
            size = sum(stored[file].size for file in covered if file.endswith(".safetensors"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _broken_manifest() from None
        engine, kind = manifest.get("engine", "native"), manifest.get("kind", "generation")
        if not all(map(is_plain_file_name, stored)) or engine not in ENGINES or kind not in KINDS:
            raise _broken_manifest()
        found = {file: facts.checked(path / file) for file, facts in stored.items()}
        if found != stored:
            _remember(path / MANIFEST, manifest, found)
        return ModelEntry(name, path, family, parameters, size, digest, False, imported_at, engine, kind)


def _remember(path: Path, manifest: Mapping[str, Any], files: Mapping[str, StoredFile]) -> None:
    """So that files which were moved, restored or touched are hashed once and not at every look."""
    with contextlib.suppress(OSError):  # why: a data directory that cannot be written can still be served from
        write_manifest(path, {**manifest, "files": {name: stored.to_json() for name, stored in files.items()}})


def _broken_manifest() -> CheckpointCorrupt:
    return CheckpointCorrupt(f"{MANIFEST} of this model is not sound: import it again")


def _taken() -> InvalidRequest:
    return InvalidRequest("a model of this name exists already: choose another with --name", param="name")


def inspect_folder(folder: Path) -> Architecture:
    """What the folder holds, once config, every tensor's header, tokenizer and template are known to be sound.

    Raises:
        CheckpointError: they are not, or not for the native engine.
    """
    arch = read_architecture(read_json_object(folder / "config.json"))
    with Checkpoint.open(folder) as checkpoint:
        weight_map(arch, checkpoint)
    tokenizer = Tokenizer.load(folder)
    ChatTemplate.load(folder, tokenizer.special_tokens)
    return arch


def check_name(name: str) -> str:
    """``name``, if a model can be called so.

    Raises:
        InvalidRequest: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"name must be 1 to {MAX_NAME} of a-z, 0-9, '.', '_' and '-', starting with a letter or digit", param="name"
        )
    return name


def default_name(source: Path) -> str:
    """A name after the folder; within the hub's cache, after the repository."""
    folder = source.resolve()
    if folder.parent.name == "snapshots":
        folder = folder.parent.parent
    base = folder.name.lower().rpartition("--")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", base).strip("._-")[:MAX_NAME] or "model"
