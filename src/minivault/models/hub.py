"""The one door to the model hub (huggingface.co, or what ``HF_ENDPOINT`` names): looks models up and fetches files.

What is fetched is pinned to a commit, goes on where it broke off, and is held to the digest that the hub gives. The
library's own download keeps no part of a file that broke off, so files come through plain HTTP ranges. Knows nothing of
what the files mean or where a model ends up.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivault import __version__
from minivault.errors import CheckpointCorrupt, Forbidden, HubRefused, HubUnavailable
from minivault.models.checkpoint import is_plain_file_name
from minivault.models.folder import COPIED_NAMES
from minivault.models.json_file import shown
from minivault.models.short_names import Reference

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAX_FILES = 20_000
ATTEMPTS = 5
"""Broken connections in a row, without a byte between them, after which a download is given up."""

_PIECE = 1 << 20
_TIMEOUT = 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

WITHOUT_NETWORK = "Without a network, take in a folder or a GGUF file of this machine: minivault models import PATH"
OFFLINE = f"Nothing is downloaded: the setting offline (or HF_HUB_OFFLINE) is on. {WITHOUT_NETWORK}"


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository. Exactly one of the digests is there."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None
    """Of small files: git's hash of the blob."""

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}" if self.sha256 else f"git-sha1:{self.git_sha1}"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository at one commit."""

    repository: str
    commit: str
    names: tuple[str, ...]
    """Every file at its root, and what is read of folders in it."""
    licence: str | None


class Hub:
    """The hub, as this process's environment names it: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``, proxies."""

    def __init__(
        self, *, offline: bool = False, endpoint: str | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """
        Raises:
            Forbidden: downloads are switched off.
        """
        if offline:
            raise Forbidden(OFFLINE)
        # Imported here: it takes its time, and nothing but a pull needs it.
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            raise Forbidden(OFFLINE)
        self._api: HfApi = HfApi(endpoint=endpoint, library_name="minivault", library_version=__version__)
        self._pause = pause
        self._files: dict[str, HubFile] = {}

    def look_up(self, reference: Reference) -> HubModel:
        """
        Raises:
            HubRefused: there is no such repository or revision, or it is gated or private.
            HubUnavailable: the hub cannot be reached.
        """
        with _explained():
            info = self._api.model_info(
                reference.repository, revision=reference.revision, files_metadata=True, timeout=_TIMEOUT
            )
        siblings = info.siblings or []
        if not isinstance(info.sha, str) or not _SHA1.fullmatch(info.sha) or len(siblings) > MAX_FILES:
            raise HubUnavailable("The hub's answer is not sound: no commit, or too many files")
        for sibling in siblings:
            if found := _hub_file(sibling):
                self._files[found.name] = found
        names = tuple(sorted(file.rfilename for file in siblings if _is_readable(file.rfilename)))
        licence = getattr(info.card_data, "license", None)
        return HubModel(reference.repository, info.sha, names, licence if isinstance(licence, str) else None)

    def file(self, model: HubModel, name: str) -> HubFile:
        """Size and digest of a file: from the look-up, or (mirrors leave them out there) asked for by itself.

        Raises:
            HubRefused, HubUnavailable: as :meth:`look_up`, or the hub gives no digest.
        """
        if name in self._files:
            return self._files[name]
        from huggingface_hub import get_hf_file_metadata

        with _explained():
            facts = get_hf_file_metadata(self._url(model, name), timeout=_TIMEOUT, endpoint=self._api.endpoint)
        etag = facts.etag or ""
        if facts.size is None or not (_SHA256.fullmatch(etag) or _SHA1.fullmatch(etag)):
            raise HubRefused(f"The hub gives no size or no digest for {shown(name)}, so it cannot be checked")
        sha256 = etag if len(etag) == 64 else None
        found = self._files[name] = HubFile(name, facts.size, sha256, None if sha256 else etag)
        return found

    def fetch(self, model: HubModel, file: HubFile, target: Path, report: Callable[[int], None]) -> None:
        """Bring ``file`` to ``target``, which may hold its beginning already; durable and checked when this returns.

        ``report`` is called with the bytes that each step added, those that were there among them; less than nothing
        where the hub does not go on but begins again.

        Raises:
            HubRefused, HubUnavailable: as :meth:`look_up`, or the connection broke; what came is kept.
            CheckpointCorrupt: the content is not what the hub's digest says; it is removed.
            OSError: it cannot be written.
        """
        with target.open("ab") as writer:
            if writer.tell() > file.size:
                _empty(writer)
            report(writer.tell())
            failures = 0
            while (start := writer.tell()) < file.size:
                try:
                    self._receive(model, file, writer, report)
                except HubUnavailable:
                    failures = failures + 1 if writer.tell() <= start else 1
                    if failures >= ATTEMPTS:
                        raise
                    self._pause(float(failures))
            writer.flush()
            os.fsync(writer.fileno())
        if not _is_what_it_should_be(target, file):
            target.unlink()
            raise CheckpointCorrupt(f"{shown(file.name)} is not what the hub's digest says; it was removed. Pull again")

    def _receive(self, model: HubModel, file: HubFile, writer: Any, report: Callable[[int], None]) -> None:
        # All three are among what the library documents, though it does not mark them so for type checkers.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        start = writer.tell()
        headers = build_hf_headers(library_name="minivault", library_version=__version__)
        # Compressed on the way, a range would count other bytes than the file's.
        headers |= {"accept-encoding": "identity"} | ({"range": f"bytes={start}-"} if start else {})
        asked = http_stream_backoff(
            "GET", self._url(model, file.name), headers=headers, timeout=_TIMEOUT, retry_on_exceptions=()
        )
        with _explained(), asked as response:
            hf_raise_for_status(response)
            if start and not _goes_on(response, start, file.size):
                report(-start)
                _empty(writer)
            for piece in response.iter_bytes():
                if writer.tell() + len(piece) > file.size:
                    _empty(writer)
                    raise CheckpointCorrupt(f"{shown(file.name)} is longer than the hub says")
                writer.write(piece)
                report(len(piece))
        if writer.tell() < file.size:
            raise HubUnavailable("The connection to the hub broke off. Pull it again to go on")

    def _url(self, model: HubModel, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(model.repository, name, revision=model.commit, endpoint=self._api.endpoint)


def _hub_file(sibling: Any) -> HubFile | None:
    """``None`` where the look-up does not say enough."""
    sha256 = getattr(sibling.lfs, "sha256", None) if sibling.lfs else None
    size = getattr(sibling.lfs, "size", None) if sibling.lfs else sibling.size
    sha1 = None if sha256 else sibling.blob_id
    sound = _SHA256.fullmatch(sha256) if sha256 else isinstance(sha1, str) and _SHA1.fullmatch(sha1)
    if not _is_readable(sibling.rfilename) or type(size) is not int or size < 0 or not sound:
        return None
    return HubFile(sibling.rfilename, size, sha256, sha1)


def _empty(writer: Any) -> None:
    writer.truncate(0)
    writer.seek(0)


def _goes_on(response: Any, start: int, size: int) -> bool:
    """Whether the answer begins where the last one ended, in a file of the same size."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return response.status_code == 206 and found is not None and (int(found[1]), int(found[2])) == (start, size)


def _is_what_it_should_be(path: Path, file: HubFile) -> bool:
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as reader:
        while piece := reader.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == (file.sha256 or file.git_sha1)


@contextmanager
def _explained() -> Iterator[None]:
    """The library's errors in our words: they would repeat addresses and what was asked for."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise HubRefused(
            "This repository is gated: accept its terms on its page of the hub, make a token that may read it there, "
            "and set HF_TOKEN to the token"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubRefused("This repository has no such revision") from None
    except errors.RepositoryNotFoundError:
        raise HubRefused(
            "The hub has no such repository, or it is private: check the name, or set HF_TOKEN to a token that may "
            "read it"
        ) from None
    except (errors.EntryNotFoundError, errors.HFValidationError, errors.FileMetadataError):
        raise HubRefused("The hub does not have a file of this repository as it should") from None
    except errors.OfflineModeIsEnabled:
        raise Forbidden(OFFLINE) from None
    except errors.HfHubHTTPError as error:
        raise _status_explained(error.response.status_code) from None
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # the client's base error, re-exported there
        raise HubUnavailable(
            f"{_asked_host(error)} cannot be reached, or broke off ({type(error).__name__}). Pull it again to "
            f"go on. HF_ENDPOINT names another hub, HTTPS_PROXY a proxy. {WITHOUT_NETWORK}"
        ) from None


def _asked_host(error: Any) -> str:
    """Which machine did not answer; a file may lie on another than the hub's own. Of its address the name alone."""
    try:
        return f"The hub ({error.request.url.host})"
    except RuntimeError:
        return "The hub"


def _status_explained(status: int) -> HubRefused | HubUnavailable:
    if status in (401, 403):
        return HubRefused(f"The hub refuses this token ({status}): set HF_TOKEN to one that may read the repository")
    if status == 429 or status >= 500:
        return HubUnavailable(f"The hub is busy or broken ({status}). Pull it again later to go on")
    return HubRefused(f"The hub refuses this ({status})")


def _is_readable(name: str) -> bool:
    return is_plain_file_name(name) or name in COPIED_NAMES
