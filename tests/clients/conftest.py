"""The server that follows a script, one for the tests of a file, which forgets between them what was done to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.scripted import Scripted, scripted


@pytest.fixture(scope="module")
def running() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def server(running: Scripted) -> Scripted:
    running.forget()
    return running
