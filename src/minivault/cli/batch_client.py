"""Talks to a server about files and batches, in OpenAI's form. Knows nothing of what the lines of a file ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minivault.cli.client import Client, JsonObject, json_of, lines_of


class BatchClient(Client):
    """A client that keeps files on the server, and has them run."""

    def upload(self, source: Path) -> JsonObject:
        """Keep a file of requests on the server."""
        with self._failures(), source.open("rb") as file:
            sent = self._http.post("/v1/files", files={"file": (source.name, file)}, data={"purpose": "batch"})
            return json_of(self._checked(sent))

    def file_lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a file, as they come."""
        with self._failures(), self._http.stream("GET", f"/v1/files/{quote(file_id, safe='')}/content") as response:
            if response.is_error:
                response.read()
            yield from lines_of(self._checked(response).iter_bytes())

    def has_file(self, file_id: str | None) -> bool:
        if file_id is None:
            return False
        with self._failures():
            return self._http.get(f"/v1/files/{quote(file_id, safe='')}").is_success

    def delete_file(self, file_id: str) -> None:
        """Delete a file, if it is there."""
        with self._failures():
            response = self._http.delete(f"/v1/files/{quote(file_id, safe='')}")
            if response.status_code != 404:
                self._checked(response)

    def create_batch(self, body: Mapping[str, Any]) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.post("/v1/batches", json=body)))

    def batch(self, batch_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.get(f"/v1/batches/{quote(batch_id, safe='')}")))

    def cancel_batch(self, batch_id: str) -> JsonObject:
        with self._failures():
            return json_of(self._checked(self._http.post(f"/v1/batches/{quote(batch_id, safe='')}/cancel")))

    def batches(self) -> Iterator[JsonObject]:
        """All batches, newest first."""
        after: dict[str, str] = {}
        while True:
            with self._failures():
                page = json_of(self._checked(self._http.get("/v1/batches", params={"limit": "100"} | after)))
            yield from page["data"]
            if not page.get("has_more"):
                return
            after = {"after": page["last_id"]}
