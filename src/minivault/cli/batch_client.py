"""Talks to a server about files and batches, in OpenAI's form. Knows nothing of what the lines of a file ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minivault.cli.client import Client, JsonObject, Response, json_of, lines_of
from minivault.cli.console import note

LEAST_WAIT, MOST_WAIT = 1.0, 3600.0
"""Seconds, until what a limit of the key has refused is asked again."""


class BatchClient(Client):
    """A client that keeps files on the server, and has them run."""

    def upload(self, source: Path) -> JsonObject:
        """Keep a file of requests on the server."""

        def send() -> Response:
            with source.open("rb") as file:
                return self._http.post("/v1/files", files={"file": (source.name, file)}, data={"purpose": "batch"})

        with self._failures():
            return json_of(self._checked(_patiently(send)))

    def file_lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a file, as they come."""
        path = f"/v1/files/{quote(file_id, safe='')}/content"
        with self._failures():
            waits = True
            while waits:
                with self._http.stream("GET", path) as response:
                    if response.is_error:
                        response.read()
                    waits = _waited(response)
                    if not waits:
                        yield from lines_of(self._checked(response).iter_bytes())

    def has_file(self, file_id: str | None) -> bool:
        if file_id is None:
            return False
        with self._failures():
            return self._asked("GET", f"/v1/files/{quote(file_id, safe='')}").is_success

    def delete_file(self, file_id: str) -> None:
        """Delete a file, if it is there."""
        with self._failures():
            response = self._asked("DELETE", f"/v1/files/{quote(file_id, safe='')}")
            if response.status_code != 404:
                self._checked(response)

    def create_batch(self, body: Mapping[str, Any]) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._asked("POST", "/v1/batches", json=body)))

    def batch(self, batch_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._asked("GET", f"/v1/batches/{quote(batch_id, safe='')}")))

    def cancel_batch(self, batch_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._asked("POST", f"/v1/batches/{quote(batch_id, safe='')}/cancel")))

    def batches(self) -> Iterator[JsonObject]:
        """All batches, newest first."""
        after: dict[str, str] = {}
        while True:
            with self._failures():
                page = json_of(self._checked(self._asked("GET", "/v1/batches", params={"limit": "100"} | after)))
            yield from page["data"]
            if not page.get("has_more"):
                return
            after = {"after": page["last_id"]}

    def _asked(self, method: str, path: str, **sent: Any) -> Response:
        return _patiently(lambda: self._http.request(method, path, **sent))


def _patiently(send: Callable[[], Response]) -> Response:
    """The answer, asked for again where a limit of the key refuses it, which the batch's own lines may have used up."""
    while _waited(response := send()):
        pass
    return response


def _waited(response: Response) -> bool:
    """Whether a limit refused it, and the time until it passes is over now."""
    if response.status_code != 429:
        return False
    told = response.headers.get("retry-after", "")
    seconds = min(MOST_WAIT, max(LEAST_WAIT, float(told) if told.isdecimal() else LEAST_WAIT))
    note(f"A limit is reached; going on in {seconds:.0f} s.")
    time.sleep(seconds)
    return True
