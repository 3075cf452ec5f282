"""The models that can be asked for: the embedded one, and those imported into the data directory.

An import is checked before it is copied, copied beside, and appears under its name at once and whole; a removal takes
it away likewise. Only safetensors, JSON, text and template files are taken; nothing here reaches a network. Knows
nothing of engines or requests.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import minivault
from minivault.errors import (
    CheckpointCorrupt,
    InvalidRequest,
    MiniVaultError,
    ModelInUse,
    ServerError,
    TooManyOpenFiles,
    UnknownModel,
)
from minivault.models.architecture import read_architecture
from minivault.models.checkpoint import Checkpoint, file_sha256, weight_files
from minivault.models.folder import (
    Progress,
    StoredFile,
    copy_files,
    counter,
    publish,
    remove_folder,
    staging_folder,
    transferable,
)
from minivault.models.inspection import examine, inspect_folder
from minivault.models.json_file import read_json_object, shortage_in
from minivault.models.manifest import MANIFEST, PUT_BY_HAND, Manifest, combined_digest
from minivault.models.naming import adapter_of, base_of, check_name, default_name, is_name
from minivault.models.short_names import closest_short_name, did_you_mean
from minivault.nearest import nearest

EMBEDDED_NAME = "guide"
_MOST_NAMED = 10

Fill = Callable[[Path], tuple[Mapping[str, StoredFile], Mapping[str, Any]]]
"""Puts a model's files into an empty folder; returns what they are, and the manifest's ``source``."""


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
    """What runs it: one of :data:`minivault.models.inspection.ENGINES`."""
    kind: str = "generation"
    """What it is asked for: one of :data:`minivault.models.inspection.KINDS`."""
    base: ModelEntry | None = None
    """Of an adapter: the model that it is added to. ``digest`` covers both."""

    @property
    def has_files(self) -> bool:
        """Whether it needs its folder once it is loaded; of one that other servers run, nothing lies there."""
        return self.engine != "remote"

    def published(self) -> tuple[int, int] | None:
        """Which description of this name it is now, by its file's inode and time; ``None``: there is none any more."""
        try:
            status = (self.path / MANIFEST).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    @property
    def whole(self) -> ModelEntry:
        """The model whose configuration, tokenizer and template it has: its base, or itself."""
        return self.base or self


class Survey(NamedTuple):
    """What lies in a data directory."""

    sound: list[ModelEntry]
    """Can be served."""
    damaged: dict[str, str]
    """What is wrong with each of the others, by name."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What reading a file again showed."""

    name: str
    size: int
    sha256: str
    """As it was when the model was imported."""
    fault: str | None
    """``None``: it is what it was."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models of one data directory. ``now`` gives the time in UTC."""

    models_dir: Path
    embedded_dir: Path = Path(minivault.__file__).parent / "guide"
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)

    def list(self) -> list[ModelEntry]:
        """Every model that can be served: the embedded one, then by name."""
        return self.survey().sound

    def survey(self) -> Survey:
        """Every model, as it is now.

        Raises:
            TooManyOpenFiles: how they are cannot be told.
        """
        entries, faults = [], {}
        for name in self.names():
            try:
                entries.append(self.get(name))
            except UnknownModel:  # removed meanwhile
                continue
            except TooManyOpenFiles:
                raise  # no word about the model
            except MiniVaultError as error:
                faults[name] = error.message
        return Survey(entries, faults)

    def get(self, name: str) -> ModelEntry:
        """The model called ``name``.

        Raises:
            UnknownModel: there is none; names the closest that there are.
            CheckpointCorrupt: its files changed since it was imported, or are gone.
        """
        return self._embedded() if self._known(name) == EMBEDDED_NAME else self._imported(name)

    def manifest(self, name: str) -> Manifest | None:
        """What is kept about the model; ``None`` for the embedded one.

        Raises:
            UnknownModel: there is none of this name.
            CheckpointCorrupt: it is not sound.
        """
        return None if self._known(name) == EMBEDDED_NAME else Manifest.read(self.models_dir / name)

    def import_folder(self, source: Path, name: str | None = None, progress: Progress | None = None) -> ModelEntry:
        """Copy the Hugging Face folder ``source`` into the catalog as ``name`` (default: after the folder).

        ``progress`` is called with bytes copied and bytes in all.

        Raises:
            InvalidRequest: the name is taken or out of bounds, or ``source`` is not a folder.
            CheckpointError: the folder is not sound, or no engine here can run it.
            ServerError: too little disk space, or the data directory cannot be written.
        """
        if not source.is_dir():
            raise InvalidRequest("path must be a folder with config.json and safetensors files", param="path")
        name = self.check_free(default_name(source) if name is None else name)
        files = transferable(source, weight_files(source))
        expected = examine(source)

        def fill(staging: Path) -> tuple[Mapping[str, StoredFile], Mapping[str, Any]]:
            stored = copy_files(source, files, staging, progress)
            if examine(staging) != expected:
                raise CheckpointCorrupt("The folder changed while it was copied")
            return stored, {"kind": "folder"}

        return self.adopt(name, fill)

    def adopt(self, name: str, fill: Fill) -> ModelEntry:
        """Take in, as ``name``, the folder that ``fill`` makes: examined, then published whole or not at all.

        Raises:
            InvalidRequest: the name is taken or out of bounds.
            CheckpointError: the folder is not sound, or no engine here can run it.
            ServerError: the data directory cannot be written.
        """
        self.check_free(name)
        try:
            with staging_folder(self.models_dir, name) as staging:
                files, source = fill(staging)
                found = Manifest(name, examine(staging), self._timestamp(), files, source)
                publish(staging, self.models_dir / name, MANIFEST, found.to_json())
        except OSError as error:
            if (self.models_dir / name).exists():  # another import of this name was faster
                raise _taken() from None
            raise ServerError(f"The model cannot be stored in the data directory: {error.strerror}") from None
        return self.get(name)

    def remove(self, name: str) -> None:
        """Take the model's files away.

        Raises:
            UnknownModel: there is none of this name.
            InvalidRequest: it is the embedded one.
            ModelInUse: a server or a command has it loaded.
            ServerError: the data directory cannot be written.
        """
        self.check_removable(name)
        try:
            removed = remove_folder(self.models_dir, name)
        except OSError as error:
            raise ServerError(f"The model cannot be removed: {error.strerror}") from None
        if not removed:
            raise ModelInUse(
                f"This model is in memory: minivault models unload {name}, or stop the server that serves it",
                param="model",
            )

    def check_removable(self, name: str) -> None:
        """Refuse what :meth:`remove` would refuse at any time; whether the model is in use shows only then.

        Raises:
            UnknownModel: there is none of this name.
            InvalidRequest: it is the embedded one.
            ModelInUse: it has adapters.
        """
        if self._known(name) == EMBEDDED_NAME:
            raise InvalidRequest("the embedded model cannot be removed", param="model")
        adapters = self.adapters(name)
        if adapters:
            raise ModelInUse(f"This model has adapters; remove them first: {', '.join(adapters)}", param="model")

    def verify(self, name: str, progress: Progress | None = None) -> tuple[FileCheck, ...]:
        """Read every file again and compare it with what it was when the model was imported.

        Raises:
            UnknownModel: there is none of this name.
            CheckpointCorrupt: its manifest is not sound.
        """
        manifest = self.manifest(name)
        if manifest is None:
            return self._verify_embedded()
        report = counter(sum(facts.size for facts in manifest.files.values()), progress)
        folder = self.models_dir / name
        return tuple(_verified(folder / file, facts, report) for file, facts in sorted(manifest.files.items()))

    def check_free(self, name: str) -> str:
        """``name``, if a model can be called so and none is.

        Raises:
            InvalidRequest: it cannot, or one is.
        """
        if check_name(name) in self.names() or (self.models_dir / name).exists():
            raise _taken()
        return name

    def _timestamp(self) -> str:
        return self.now().isoformat(timespec="seconds").replace("+00:00", "Z")

    def names(self) -> tuple[str, ...]:
        """Every name, those of broken models and of folders that are none too: the embedded one, then in order."""
        try:
            found = sorted(path.name for path in self.models_dir.glob("*") if path.is_dir())
        except OSError as error:
            raise shortage_in(error) or error from None
        return (EMBEDDED_NAME, *(name for name in found if _is_shown(name) and name != EMBEDDED_NAME))

    def adapters(self, base: str) -> tuple[str, ...]:
        """The full names of the adapters of ``base``, in order."""
        return tuple(name for name in self.names() if adapter_of(name) is not None and base_of(name) == base)

    def _known(self, name: str) -> str:
        names = self.names()
        if name in names:
            return name
        raise UnknownModel(
            f"There is no model of this name here{self._colon(name, names)}. {_instead(name, names)}"
            f" Get one with: minivault models pull {closest_short_name(name)}, or minivault models import PATH",
            param="model",
        )

    def _colon(self, name: str, names: tuple[str, ...]) -> str:
        """What ``BASE:NAME`` asks for, to those who know other servers' tags; empty where there is no such base."""
        base = base_of(name)
        if adapter_of(name) is None or base not in names:
            return ""
        known = ", ".join(self.adapters(base))
        return f" (a colon names an adapter of a model, and {base} has {f'only {known}' if known else 'none'})"

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
        if not is_name(name):
            raise CheckpointCorrupt(f"No model can be called as this folder is. {PUT_BY_HAND}")
        manifest = Manifest.read(path)
        if adapter_of(name) is not None:
            return self._adapter(name, manifest)
        if manifest.examined.engine == "remote":
            return ModelEntry(name, path, manifest.examined.family, 0, 0, "", False, manifest.imported_at, "remote")
        weights = weight_files(path)
        digest = manifest.digest(weights)
        size = sum(manifest.files[file].size for file in weights if file.endswith(".safetensors"))
        manifest.checked(path)
        found = manifest.examined
        return ModelEntry(
            name, path, found.family, found.parameters, size, digest, False, manifest.imported_at, found.engine,
            found.kind,
        )  # fmt: skip

    def _adapter(self, name: str, manifest: Manifest) -> ModelEntry:
        """One that was added with ``add-adapter``; its digest changes with its base's."""
        base = self.get(base_of(name))
        path = self.models_dir / name
        own = manifest.adapter_digest()
        manifest.checked(path)
        size = sum(facts.size for file, facts in manifest.files.items() if file.endswith(".safetensors"))
        found = manifest.examined
        return ModelEntry(
            name, path, base.family, found.parameters, size, combined_digest(base.digest, own), False,
            manifest.imported_at, found.engine, found.kind, base,
        )  # fmt: skip

    def _verify_embedded(self) -> tuple[FileCheck, ...]:
        """Nothing is kept to compare it with; that it can be read whole is what there is to see."""
        inspect_folder(self.embedded_dir)
        paths = sorted(path for path in self.embedded_dir.iterdir() if path.is_file() and path.suffix != ".md")
        return tuple(FileCheck(path.name, path.stat().st_size, file_sha256(path), None) for path in paths)


def _is_shown(name: str) -> bool:
    """Whether a folder is told of: not those of imports, pulls and removals that are under way, which begin so, nor
    what a file system puts at its top."""
    return not name.startswith(".") and name.isprintable() and name != "lost+found"


def _instead(name: str, names: tuple[str, ...]) -> str:
    """The names that may be meant, or else those that there are."""
    if closest := nearest(name, names):
        return did_you_mean(closest)
    among = "is" if len(names) == 1 else "are" if len(names) <= _MOST_NAMED else "are, among others"
    return f"There {among}: {', '.join(names[:_MOST_NAMED])}."


def _verified(path: Path, facts: StoredFile, report: Callable[[int], None]) -> FileCheck:
    fault = None
    if not path.is_file():
        fault = "gone"
    elif path.stat().st_size != facts.size:
        fault = "another size"
    elif file_sha256(path) != facts.sha256:
        fault = "another content"
    report(facts.size)
    return FileCheck(path.name, facts.size, facts.sha256, fault)


def _taken() -> InvalidRequest:
    return InvalidRequest("a model of this name exists already: choose another with --name", param="name")
