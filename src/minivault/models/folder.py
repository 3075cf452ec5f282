"""Moves a model's files into the data directory: which may come, copied and hashed, published whole or not at all.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from minivault.errors import CheckpointCorrupt, ServerError
from minivault.file_lock import lock
from minivault.files import OPEN_FILES_STAY, PLAIN, sync_folder
from minivault.models.checkpoint import file_sha256
from minivault.models.json_file import MAX_JSON_BYTES, shown
from minivault.processes import is_running

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

COPIED_NAMES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip
"""What comes along beside the weights, where it exists."""
_AGAIN = "remove the model and import it again"


def stored_name(name: str) -> str:
    """A file's name in the catalog, where models have no folders in them."""
    return name.replace("/", "__")


LICENCE_NAMES = (
    "LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt", "Notice.txt", "USE_POLICY.md",
)  # fmt: skip
"""What its makers ask of those who use it; comes along too."""

SPARE_BYTES = 64 << 20
"""Disk space that an import leaves free: the vault lives there too."""

_PIECE = 4 << 20
_STAGING_PREFIX = ".importing-"
_REMOVED_PREFIX = ".removing-"
_HELD_PREFIX = ".held-"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A copied file: its content's hash, and how to see without reading it that it is still the same file."""

    sha256: str
    size: int
    mtime_ns: int
    inode: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        return cls(str(facts["sha256"]), int(facts["size"]), int(facts["mtime_ns"]), int(facts["inode"]))

    def checked(self, path: Path) -> Self:
        """What is known of ``path`` now; it is hashed again only where it looks touched.

        Raises:
            CheckpointCorrupt: it is gone, or its content changed.
        """
        try:
            status = path.stat()
        except OSError:
            raise CheckpointCorrupt(f"{shown(path.name)} of this model is gone: {_AGAIN}") from None
        if (status.st_size, status.st_mtime_ns, status.st_ino) == (self.size, self.mtime_ns, self.inode):
            return self
        if status.st_size != self.size or file_sha256(path) != self.sha256:
            raise CheckpointCorrupt(f"{shown(path.name)} changed since this model was imported: {_AGAIN}")
        return replace(self, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def digest_of(files: Mapping[str, StoredFile]) -> str:
    """As :func:`minivault.models.checkpoint.files_digest`, from hashes already known; in the mapping's order."""
    lines = "".join(f"{stored.sha256}  {name}\n" for name, stored in files.items())
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def transferable(source: Path, weights: Sequence[str]) -> list[str]:
    """Names of the files to copy: ``weights`` and what of :data:`COPIED_NAMES` exists.

    Raises:
        CheckpointCorrupt: one is missing, a link that leads out of a hub cache, not a regular file, or too large.
    """
    names = [*weights, *(name for name in (*COPIED_NAMES, *LICENCE_NAMES) if os.path.lexists(source / name))]
    for name in names:
        path = source / name
        if path.is_symlink() and not _in_hub_cache(source, path):
            raise CheckpointCorrupt(f"{shown(name)} is a symbolic link, which is not followed: copy the file itself")
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointCorrupt(f"{shown(name)} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointCorrupt(f"{shown(name)} is not a regular file")
        if not name.endswith(".safetensors") and status.st_size > MAX_JSON_BYTES:
            raise CheckpointCorrupt(f"{shown(name)} is larger than {MAX_JSON_BYTES} bytes")
    return names


def _in_hub_cache(source: Path, path: Path) -> bool:
    """The hub's cache is made of links: ``<repo>/snapshots/<revision>/<name>`` into ``<repo>/blobs``."""
    repository = source.resolve().parent.parent
    return source.resolve().parent.name == "snapshots" and path.resolve().parent == repository / "blobs"


@contextmanager
def staging_folder(models_dir: Path, name: str) -> Iterator[Path]:
    """A fresh folder beside the models; whatever is left of it at the end is removed, and of imports that died."""
    models_dir.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(models_dir)
    staging = models_dir / f"{_STAGING_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{name}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _clear_leftovers(models_dir: Path) -> None:
    for prefix in (_STAGING_PREFIX, _REMOVED_PREFIX):
        for leftover in models_dir.glob(f"{prefix}*"):
            process_id = leftover.name.removeprefix(prefix).partition("-")[0]
            if not (process_id.isdecimal() and is_running(int(process_id))):
                _take_away(leftover)


def _take_away(folder: Path) -> None:
    """Of a link that somebody put among the models, only the link."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_folder(models_dir: Path, name: str) -> bool:
    """Take the folder ``name`` away, all of it at once; false where somebody holds it. Point of no return: the rename.

    Raises:
        OSError: it cannot be renamed.
    """
    try:
        held = hold_folder(models_dir / name, alone=True)
    except BlockingIOError:
        return False
    with held:
        removed = models_dir / f"{_REMOVED_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{name}"
        (models_dir / name).rename(removed)
        sync_folder(models_dir)
        _take_away(removed)
    return True


class Hold:
    """Keeps a folder from being removed, by this process and by others, until :meth:`close`. Idempotent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hold_folder(folder: Path, *, alone: bool = False) -> Hold:
    """Hold ``folder``, together with others unless ``alone``.

    Raises:
        BlockingIOError: somebody holds it alone, or (``alone``) somebody holds it.
        OSError: it is gone.
    """
    descriptor = _open_folder(folder)
    try:
        lock(descriptor, shared=not alone)
    except BaseException:
        os.close(descriptor)
        raise
    return Hold(descriptor)


def _open_folder(folder: Path) -> int:
    """What is locked for a folder: itself, or on Windows, where a folder that has an open file keeps its name, a file
    beside it, which stays."""
    if not OPEN_FILES_STAY:
        return os.open(folder, os.O_RDONLY)
    folder.stat()
    return os.open(folder.with_name(f"{_HELD_PREFIX}{folder.name}"), os.O_RDWR | os.O_CREAT | PLAIN, 0o600)


def copy_files(source: Path, names: Sequence[str], target: Path, progress: Progress | None) -> dict[str, StoredFile]:
    """Copy and hash in one reading, each file made durable.

    Raises:
        ServerError: there is too little room; nothing was copied.
        OSError: reading or writing failed.
    """
    total = sum((source / name).stat().st_size for name in names)
    check_room(target, total)
    stored: dict[str, StoredFile] = {}
    copied = counter(total, progress)
    for name in names:
        kept = stored_name(name)
        stored[kept] = _copy(source / name, target / kept, copied)
    return stored


def counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    """Adds up what it is called with, and tells ``progress`` the sum."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return count


def check_room(folder: Path, needed: int) -> None:
    """See that ``needed`` bytes and :data:`SPARE_BYTES` fit on the disk of ``folder``.

    Raises:
        ServerError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise ServerError(
            f"The model needs {needed} bytes and {SPARE_BYTES} to spare; the data directory has {free} free"
        )


def _copy(source: Path, target: Path, copied: Callable[[int], None]) -> StoredFile:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_PIECE):
            writer.write(piece)
            digest.update(piece)
            copied(len(piece))
        writer.flush()
        os.fsync(writer.fileno())
    status = target.stat()
    return StoredFile(digest.hexdigest(), status.st_size, status.st_mtime_ns, status.st_ino)


def publish(staging: Path, target: Path, manifest_name: str, manifest: Mapping[str, Any]) -> None:
    """Write the manifest and give ``staging`` its name. Point of no return: the rename.

    Raises:
        OSError: writing failed, or ``target`` exists.
    """
    write_manifest(staging / manifest_name, manifest)
    staging.rename(target)
    sync_folder(target.parent)


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write or replace the manifest, whole at any moment.

    Raises:
        OSError: writing failed; a manifest that was there before still is.
    """
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with unfinished.open("x", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)
