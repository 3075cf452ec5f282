"""A model hub on this machine: look-ups, files with ranges and digests, gates, and connections that break off.

Speaks as much of the hub's HTTP as a pull needs. Runs in a thread; knows nothing of MiniVault.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeRepository:
    """Files by name, and how the hub behaves about them."""

    files: dict[str, bytes]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    token: str | None = None
    """The one that opens a gated or private repository."""
    private: bool = False
    licence: str | None = "apache-2.0"
    bare_look_up: bool = False
    """Leaves sizes and digests out of the look-up, as some mirrors do."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """What is sent in place of a file, under the digest of the true one."""


@dataclass
class FakeHub:
    """The state that tests script and look at."""

    url: str = ""
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    """One for each answer with weights to come: bytes after which its connection is cut."""
    stall_after: int | None = None
    """Bytes after which an answer with weights goes no further; ``stalled`` is then set."""
    stalled: threading.Event = field(default_factory=threading.Event)
    ignores_ranges: bool = False
    redirects: bool = True
    """Weights come from another address, as from the hub's CDN."""
    served: list[tuple[str, int, int]] = field(default_factory=list)
    """Each file answer: name, first byte, bytes sent."""
    authorizations: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths with the credentials that came."""

    def sent(self, name: str) -> int:
        return sum(count for found, _, count in self.served if found == name)


def is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def _route(self) -> None:
        self.hub.authorizations.append((self.path, self.headers.get("authorization")))
        if found := re.match(r"/api/models/([^/]+/[^/?]+)(?:/revision/([^?]+))?(?:\?|$)", self.path):
            self._look_up(found[1], (found[2] or "main").replace("%2F", "/"))
        elif found := re.match(r"/(cdn/)?([^/]+/[^/]+)/resolve/([0-9a-f]{40})/([^?]+)$", self.path):
            self._file(found[2], found[4], at_cdn=found[1] is not None)
        else:
            self._refuse(404, "EntryNotFound")

    def _repository(self, name: str, *, checked: bool = True) -> FakeRepository | None:
        repository = self.hub.repositories.get(name)
        authorized = repository is not None and self.headers.get("authorization") == f"Bearer {repository.token}"
        if repository is None or (repository.private and not authorized):
            self._refuse(401, "RepoNotFound")
            return None
        if checked and repository.gated and not authorized:
            self._refuse(403 if self.headers.get("authorization") else 401, "GatedRepo")
            return None
        return repository

    def _look_up(self, name: str, revision: str) -> None:
        repository = self._repository(name, checked=False)
        if repository is None:
            return
        if revision not in (*repository.revisions, repository.commit):
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [self._sibling(repository, file, data) for file, data in repository.files.items()]
        body: dict[str, Any] = {"id": name, "sha": repository.commit, "siblings": siblings, "private": False}
        if repository.licence:
            body["cardData"] = {"license": repository.licence}
        self._send(200, json.dumps(body).encode(), {"content-type": "application/json"})

    def _sibling(self, repository: FakeRepository, file: str, data: bytes) -> dict[str, Any]:
        if repository.bare_look_up:
            return {"rfilename": file}
        facts: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": git_sha1(data)}
        if is_large(file):
            facts["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
        return facts

    def _file(self, name: str, file: str, *, at_cdn: bool) -> None:
        repository = self._repository(name) if not at_cdn else self.hub.repositories[name]
        if repository is None:
            return
        if file not in repository.files:
            self._refuse(404, "EntryNotFound")
            return
        true = repository.files[file]
        digest = hashlib.sha256(true).hexdigest() if is_large(file) else git_sha1(true)
        headers = {"x-repo-commit": repository.commit, "x-linked-etag": f'"{digest}"', "x-linked-size": str(len(true))}
        if is_large(file) and self.hub.redirects and not at_cdn:
            # Another name of this machine is another origin: credentials must not follow there.
            self._send(
                302, b"", headers | {"location": self.hub.url.replace("127.0.0.1", "localhost") + "/cdn" + self.path}
            )
            return
        self._send_part(file, repository.lies.get(file, true), headers)

    def _send_part(self, file: str, data: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        start = int(asked[1]) if asked and not self.hub.ignores_ranges else 0
        if start:
            headers = headers | {"content-range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        part = data[start:]
        whole = len(part)
        cut = self.hub.cut_after.pop(0) if is_large(file) and self.hub.cut_after and self.command == "GET" else whole
        if self.command == "GET":
            self.hub.served.append((file, start, min(cut, whole)))
        stall = self.hub.stall_after if is_large(file) and self.command == "GET" else None
        self._send(206 if start else 200, part[: cut if stall is None else stall], headers, length=whole)
        if stall is not None:
            self.wfile.flush()
            self.hub.stalled.set()
            self.rfile.read(1)  # until the client is gone
        if cut < whole or stall is not None:
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"x-error-code": code, "content-type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the play."""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that serves for the length of a block."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
