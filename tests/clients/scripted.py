"""The application over fakes on a thread of its own, behind a real socket: so a client may block while a test holds,
breaks or counts what is behind. Knows nothing of what is asked of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minivault.api.app import create_app
from minivault.cli.connection import ConnectionLimits
from minivault.service import ServiceLimits
from minivault.settings import Settings
from tests.api.raw import listening
from tests.fakes import Bench, make_bench, says

PATIENCE_SECONDS = 120


class Scripted:
    """A running server with one place: whoever finds it taken is refused. ``bench`` is what is behind it."""

    def __init__(self, url: str, bench: Bench) -> None:
        self.url = url
        self.bench = bench

    def forget(self) -> None:
        """What earlier tests did."""
        self.until(lambda: not self.bench.models.leases)
        self.bench.ledger.intents.clear()
        self.bench.ledger.outcomes.clear()
        self.bench.engine.streams.clear()
        self.bench.engine.hold_after = None
        self.bench.engine.answer = says("Yes, it is.")
        self.bench.models.error = None

    def until(self, condition: Callable[[], Any]) -> None:
        """Polls, since what is waited for happens on the server's thread."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)

    def ended(self) -> list[str]:
        """How the calls ended, once none is open and no place is taken."""
        self.until(lambda: not self.bench.models.leases)
        assert len(self.bench.ledger.intents) == len(self.bench.ledger.outcomes)
        return [outcome.finish_reason for outcome in self.bench.ledger.outcomes]


@contextmanager
def scripted(**settings: Any) -> Iterator[Scripted]:
    started: list[Scripted] = []
    ends: list[Callable[[], object]] = []
    ready = threading.Event()

    async def serve() -> None:
        bench = make_bench(template=True, limits=ServiceLimits(max_running=1, max_waiting=0))
        app = create_app(Settings(**{"rate_limit": "", **settings}), service=bench.service)
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with listening(app, ConnectionLimits()) as port:
            started.append(Scripted(f"http://127.0.0.1:{port}", bench))
            ends.append(lambda: loop.call_soon_threadsafe(over.set))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield started[0]
    finally:
        ends[0]()
        thread.join(60)
        assert not thread.is_alive()
