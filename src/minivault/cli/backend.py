"""Chooses what answers the prompts of a command: the server, or with ``--local`` an engine in this process.

Knows nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from minivault.cli import options
from minivault.cli.address import running_at
from minivault.cli.console import CliError


class Answers(Protocol):
    """Whatever answers prompts for a command: a server, or an engine in this process. Bodies are those of the wire."""

    def takes(self, field: str) -> bool:
        """Whether a body may have this field."""

    def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The whole answer, as ``POST /generate`` gives it."""

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """The answer in pieces, as the JSON lines of ``POST /generate/stream``; the last has ``done``.

        Closing the iterator early cancels the generation.
        """


class Backend(Answers, Protocol):
    """All that commands ask of a server or an engine."""

    def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Vectors for texts, as ``POST /embed`` gives them."""

    def replay(self, record_id: str) -> dict[str, Any]:
        """The verdict on a recorded call, as ``POST /vault/records/{id}/replay`` gives it."""

    def records(self, cursor: str | None) -> dict[str, Any]:
        """A page of recorded calls, newest first, as ``GET /vault/records`` gives it."""


@contextmanager
def open_backend(
    *,
    url: str | None = None,
    api_key: str | None = None,
    local: bool = False,
    data_dir: Path | None = None,
    model: str | None = None,
) -> Iterator[Backend]:
    """A backend for the length of a ``with`` block; it is closed, and everything recorded, at its end.

    Raises:
        CliError: ``--url`` and ``--local`` were both given, or ``--local`` while a server runs on the data directory.
    """
    if local and url is not None:
        raise CliError("--url and --local exclude each other: a server, or this process.", exit_code=2)
    settings = options.settings(url=url, api_key=api_key, data_dir=data_dir, model=model if local else None)
    if local:
        if (running := running_at(settings.data_dir)) is not None:
            raise CliError(f"A server runs on this data directory, at {running}: leave --local out, and it is asked.")
        from minivault.cli.local import Local

        with Local(settings) as here:
            yield here
    else:
        from minivault.cli.client import Client

        with Client.of(settings) as client:
            yield client
