"""Pulls a model from the hub into the catalog: which files, in which order, kept between attempts, published whole.

What came before an interruption lies in a hidden folder under the model's name, each file under its digest, and the
next pull of that name goes on from there. Knows nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivault.errors import CheckpointCorrupt, HubRefused, InvalidRequest, ServerError
from minivault.models.catalog import Catalog, ModelEntry
from minivault.models.checkpoint import INDEX_FILE, SINGLE_FILE, file_sha256, read_index
from minivault.models.folder import COPIED_NAMES, LICENCE_NAMES, StoredFile, check_room, hold_folder, stored_name
from minivault.models.hub import Hub, HubFile
from minivault.models.inspection import check_config
from minivault.models.json_file import MAX_JSON_BYTES, read_json_object, shown
from minivault.models.naming import check_name
from minivault.models.short_names import Reference

PARTIAL_PREFIX = ".pulling-"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull has come. Counts are bytes."""

    file: str
    digest: str
    """What the hub says of the file: ``sha256:...`` or ``git-sha1:...``."""
    file_done: int
    file_total: int
    done: int
    """Of all files that are known so far; weights are known once the small files are there."""
    total: int


Report = Callable[[PullProgress], None]


def pull(
    catalog: Catalog, hub: Hub, reference: Reference, name: str | None = None, report: Report | None = None
) -> ModelEntry:
    """Bring ``reference`` into ``catalog`` as ``name`` (default: its short name, or after the repository).

    An exception from ``report`` ends the pull; like every interruption, it keeps what came.

    Raises:
        InvalidRequest: the name is taken or out of bounds, or it is being pulled right now.
        HubRefused, HubUnavailable: the hub will not or cannot give it.
        CheckpointError: what came is not sound, or no engine here can run it; nothing is kept.
        ServerError: too little disk space, or the data directory cannot be written.
    """
    name = catalog.check_free(reference.name if name is None else name)
    partial = catalog.models_dir / f"{PARTIAL_PREFIX}{name}"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        held = hold_folder(partial, alone=True)
    except BlockingIOError:
        raise InvalidRequest("a model of this name is being pulled already", param="name") from None
    except OSError as error:
        raise _cannot_write(error) from None
    with held:
        fetched = _Pull(hub, partial, report or _silent)
        try:
            fetched.run(reference)
            return catalog.adopt(name, fetched.move_to)
        except OSError as error:
            raise _cannot_write(error) from None
        finally:
            if not fetched.worth_going_on:
                shutil.rmtree(partial, ignore_errors=True)


def unfinished(models_dir: Path) -> list[tuple[str, int]]:
    """Names of pulls that were interrupted or are under way, with the bytes they hold."""
    return [
        (folder.name.removeprefix(PARTIAL_PREFIX), _bytes_in(folder))
        for folder in sorted(models_dir.glob(f"{PARTIAL_PREFIX}*"))
    ]


def _bytes_in(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # why: a pull that ends meanwhile takes its files away
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def forget_unfinished(models_dir: Path, name: str) -> bool:
    """Remove what an interrupted pull of ``name`` left; false if there is nothing.

    Raises:
        InvalidRequest: it is being pulled right now.
    """
    partial = models_dir / f"{PARTIAL_PREFIX}{check_name(name)}"
    try:
        held = hold_folder(partial, alone=True)
    except BlockingIOError:
        raise InvalidRequest("a model of this name is being pulled: stop that first", param="name") from None
    except OSError:
        return False
    with held:
        shutil.rmtree(partial, ignore_errors=True)
    return True


class _Pull:
    """One pull under way into ``partial``."""

    def __init__(self, hub: Hub, partial: Path, report: Report) -> None:
        self._hub, self._partial, self._report = hub, partial, report
        self._files: list[HubFile] = []
        self._source: dict[str, Any] = {}
        self._done = 0
        self.worth_going_on = any(partial.iterdir())
        """Whether the folder holds, or may yet hold, what a later attempt can use."""

    def run(self, reference: Reference) -> None:
        """Small files first: what they say decides whether the large ones are wanted, and which."""
        model = self._model = self._hub.look_up(reference)
        self._source = {
            "kind": "hub",
            "repository": model.repository,
            "revision": reference.revision or "main",
            "commit": model.commit,
            "licence": model.licence,
        }
        names = model.names
        if "config.json" not in names or not {SINGLE_FILE, INDEX_FILE} & set(names):
            raise _not_a_checkpoint(names)
        small = [name for name in (*COPIED_NAMES, *LICENCE_NAMES) if name in names]
        small += [INDEX_FILE] if SINGLE_FILE not in names else []
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
            raise HubRefused(
                "This repository has no tokenizer.json, nor vocab.json with merges.txt. Transformers' "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one beside a copy of it, which can be "
                "imported: minivault models import PATH"
            )
        self._fetch_small(small)
        check_config(read_json_object(self._place("config.json")))
        self._fetch_weights(self._weights())

    def _fetch_small(self, names: list[str]) -> None:
        files = self._plan(names)
        for file in files:
            if file.size > MAX_JSON_BYTES:
                raise CheckpointCorrupt(f"{shown(file.name)} is larger than {MAX_JSON_BYTES} bytes")
        check_room(self._partial, sum(file.size for file in files))
        self._fetch(files)

    def _weights(self) -> list[str]:
        if SINGLE_FILE in self._model.names:
            return [SINGLE_FILE]
        shards = list(read_index(self._place(INDEX_FILE)))
        missing = [name for name in shards if name not in self._model.names]
        if missing:
            raise CheckpointCorrupt(f"{INDEX_FILE} names {shown(missing[0])}, which the repository lacks")
        return shards

    def _fetch_weights(self, names: list[str]) -> None:
        files = self._plan(names)
        self._clear()
        check_room(self._partial, sum(file.size for file in self._files) - _bytes_in(self._partial))
        self.worth_going_on = True
        self._fetch(files)

    def move_to(self, staging: Path) -> tuple[Mapping[str, StoredFile], Mapping[str, Any]]:
        """Give the files their names in ``staging``. From here on, nothing is left to go on from."""
        self.worth_going_on = False
        stored = {}
        for file in self._files:
            kept = stored_name(file.name)
            target = staging / kept
            self._place(file.name).rename(target)
            status = target.stat()
            sha256 = file.sha256 or file_sha256(target)
            stored[kept] = StoredFile(sha256, status.st_size, status.st_mtime_ns, status.st_ino)
        return stored, self._source | {"digests": {file.name: file.digest for file in self._files}}

    def _plan(self, names: Iterable[str]) -> list[HubFile]:
        files = [self._hub.file(self._model, name) for name in names]
        self._files += files
        return files

    def _place(self, name: str) -> Path:
        digest = next(file.digest for file in self._files if file.name == name)
        # Two files of one content would share a place, and only one could be moved away.
        return self._partial / f"{digest.partition(':')[2]}-{stored_name(name)}"

    def _fetch(self, files: Iterable[HubFile]) -> None:
        total = sum(file.size for file in self._files)
        for file in files:
            file_done = 0

            def came(count: int, file: HubFile = file) -> None:
                nonlocal file_done
                file_done += count
                self._done += count
                self._report(PullProgress(file.name, file.digest, file_done, file.size, self._done, total))

            self._hub.fetch(self._model, file, self._place(file.name), came)

    def _clear(self) -> None:
        """Take away what an earlier attempt left of another commit."""
        wanted = {self._place(file.name) for file in self._files}
        for path in self._partial.iterdir():
            if path not in wanted:
                path.unlink()


def _not_a_checkpoint(names: Iterable[str]) -> HubRefused:
    endings = {Path(name).suffix for name in names}
    if found := sorted(endings & set(_PICKLES)):
        return HubRefused(
            f"This repository holds its weights as {', '.join(found)} only, never loaded here: pickle can run code. "
            "Look for a revision with safetensors (the hub's converter offers one as a pull request: "
            "ORG/NAME@refs/pr/N) or another repository of the model, or convert it where you trust it, with "
            "Transformers' save_pretrained, and import the folder: minivault models import PATH"
        )
    if ".gguf" in endings:
        return HubRefused(
            "This repository holds GGUF files only: download the one that you want, and import it with: "
            "minivault models import FILE.gguf"
        )
    return HubRefused("This repository is not a checkpoint: it has no config.json with *.safetensors beside it")


def _cannot_write(error: OSError) -> ServerError:
    return ServerError(f"The model cannot be stored in the data directory: {error.strerror or type(error).__name__}")


def _silent(progress: PullProgress) -> None:
    del progress
