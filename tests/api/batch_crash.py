"""A batch whose process ends at a step of its work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minivault.batches.store import BatchStore
from tests.api.batch_server import batching_of, lines, server_of, started
from tests.fakes import Bench


class CrashError(BaseException):
    """In the place of a kill: what comes after it does not happen."""


async def crashed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench, deed: str, endpoint: str, body: dict[str, Any]
) -> tuple[str, list[tuple[Any, ...]]]:
    """A batch of one line whose process ended as it was about to do ``deed``; its id, and what was drafted by then."""
    at_it = asyncio.Event()
    loop = asyncio.get_running_loop()

    def dies(*_: object) -> None:
        loop.call_soon_threadsafe(at_it.set)
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(BatchStore, deed, dies)
        async with server_of(bench, tmp_path) as client:
            batch_id = await started(client, lines(body, url=endpoint), endpoint)
            await at_it.wait()
            store = await batching_of(client).store()
            drafts = store._db.execute("SELECT result FROM lines WHERE calls IS NOT NULL").fetchall()
    return batch_id, drafts
