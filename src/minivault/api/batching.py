"""Runs batches behind the back of a running server: from the file that it is to the files that it gives.

Live work comes first. Knows nothing of how files and batches are kept, or of how a line comes to its result. Owned by
the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fastapi import FastAPI

from minivault.api.body import parse_json
from minivault.api.line_answers import ENDPOINTS
from minivault.api.line_runner import LineRunner
from minivault.api.patience import Patience
from minivault.api.problems import Problem
from minivault.api.room import Room
from minivault.api.tidying import Tidying
from minivault.api.turns import Turns
from minivault.batches.reading import LineReader
from minivault.batches.store import BatchStore
from minivault.batches.values import UNFINISHED, Batch, IllegalStep, Line, Result, Status
from minivault.errors import InvalidRequest
from minivault.one_line import in_one_line
from minivault.telemetry.logging import describe_error, get_logger
from minivault.telemetry.metrics import Metrics

logger = get_logger(__name__)
Open = Callable[[], BatchStore]


@dataclass(frozen=True, slots=True)
class Bounds:
    """From the settings."""

    concurrency: int
    max_file_bytes: int
    max_stored_bytes: int
    max_line_bytes: int
    retention: float = 0.0
    """Days for which files are kept; 0: until they are deleted."""


class Batching:
    """Files and batches of one server. The file that keeps them is opened when it is first needed."""

    def __init__(
        self,
        app: FastAPI,
        open_store: Open,
        bounds: Bounds,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._open_store = open_store
        self._store: BatchStore | None = None
        self._opening = asyncio.Lock()
        self._expiry: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, Turns] = {}
        self._places = asyncio.Semaphore(bounds.concurrency)
        self._patience = Patience()
        self._runner = LineRunner(app, self._patience, metrics)
        self._tidying = Tidying(app, self._patience, self.now, bounds.retention)
        self._metrics = metrics
        self._now = now
        self.bounds = bounds
        self.room = Room(bounds.max_stored_bytes)

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._now())

    async def store(self) -> BatchStore:
        """
        Raises:
            ConfigError, LedgerUnavailable: it cannot be opened.
        """
        async with self._opening:
            if self._store is None:
                self._store = await asyncio.to_thread(self._open_store)
                self._expiry = asyncio.get_running_loop().create_task(self._tidying.run(self._store))
            return self._store

    async def resume(self) -> None:
        """Go on with what an earlier process left."""
        store = await self.store()
        await self._tidying.follow(store)  # before anything that was erased is answered or run
        for batch in await asyncio.to_thread(store.unfinished):
            self._start(batch)

    async def submit(self, batch: Batch, size: int) -> None:
        """Take a batch on; from now on it is run to its end, by this process or a later one. Its ``size`` bytes of
        lines are copied, and stay until it has ended.

        Raises:
            Problem: 413, there is no room for them.
            RateLimited: its owner has too many that have not ended.
        """
        store = await self.store()

        def add() -> int:
            store.add(batch)
            return size

        async with self.room.held(store.stored_bytes, size) as share:
            await share.keep(add)
        self._start(batch)

    async def cancel(self, batch: Batch) -> Batch:
        """Begin no more of its lines. Those that run come to their ends.

        Raises:
            InvalidRequest: it has ended, or is about to.
        """
        store = await self.store()
        try:
            current = await asyncio.to_thread(store.step, batch.id, Status.CANCELLING, self.now())
        except IllegalStep:
            current = await asyncio.to_thread(store.batch, batch.id)
        if current.status is not Status.CANCELLING:
            raise InvalidRequest(f"batch_id: a batch that is {current.status} cannot be cancelled", param="batch_id")
        if (turns := self._turns.get(batch.id)) is not None:
            turns.end()
        task = self._running.get(batch.id)
        if (task is None or task.done()) and not self._patience.ended:
            self._start(current)  # its task had failed
        return current

    async def close(self) -> None:
        """Begin nothing more, and stop. What was not ended is gone on with by the next process."""
        self._patience.end()
        tasks = [*self._running.values(), *([] if self._expiry is None else [self._expiry])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    def pause(self) -> None:
        """Begin no more lines; those that run may end. Comes before the service is drained."""
        self._patience.end()

    def _start(self, batch: Batch) -> None:
        task = asyncio.get_running_loop().create_task(self._run(batch.id))
        self._running[batch.id] = task
        task.add_done_callback(lambda done: self._forget(batch.id, done))

    def _forget(self, batch_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(batch_id) is task:
            del self._running[batch_id]

    async def _run(self, batch_id: str) -> None:
        try:
            while not await self._patience.done(self._lived(batch_id)) and not self._patience.ended:
                pass
        except Exception as error:
            # It stays where it is: a cancel, or the next start, goes on with it.
            logger.error("batch stopped", batch=batch_id, **describe_error(error))  # noqa: TRY400 - may hold input

    async def _lived(self, batch_id: str) -> None:
        store = await self.store()
        batch = await asyncio.to_thread(store.batch, batch_id)
        if batch.status is Status.VALIDATING:
            batch = await asyncio.to_thread(self._validated, store, batch)
        await self._settle(store, batch)
        if batch.status is Status.IN_PROGRESS:
            await self._run_lines(store, batch)
        if not self._patience.ended:
            await asyncio.to_thread(self._ended, store, batch_id)

    def _validated(self, store: BatchStore, batch: Batch) -> Batch:
        """Read the input file; the batch is then in progress with all its lines, or failed. Blocking."""
        reader = LineReader(batch.endpoint, self.bounds.max_line_bytes, _parse)
        try:
            try:
                return store.begin(batch.id, _sound(reader, store.content(batch.input_file_id)), self.now())
            except _Faulty:
                failed = store.step(batch.id, Status.FAILED, self.now(), reader.faults)
        except IllegalStep:
            return store.batch(batch.id)  # it was cancelled meanwhile
        self._metrics.batch_ended(failed.status)
        return failed

    async def _run_lines(self, store: BatchStore, batch: Batch) -> None:
        pending = iter(await asyncio.to_thread(store.pending, batch.id))
        most = min(batch.concurrency or self.bounds.concurrency, self.bounds.concurrency)
        turns = Turns(self._places, self._patience.part(), self._is_calm, lambda: self._goes_on(store, batch))
        self._turns[batch.id] = turns
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(most):
                    group.create_task(self._work(store, batch, pending, turns))
        finally:
            del self._turns[batch.id]

    async def _work(self, store: BatchStore, batch: Batch, pending: Iterator[int], turns: Turns) -> None:
        """One of a batch's workers: takes the next line until there is none, or the batch goes no further."""
        for number in pending:
            if not await turns.go_on():
                return
            await self._runner.run(store, batch, number, turns)

    async def _goes_on(self, store: BatchStore, batch: Batch) -> bool:
        if self.now() >= batch.expires_at:
            return False
        return (await asyncio.to_thread(store.batch, batch.id)).status is Status.IN_PROGRESS

    async def _settle(self, store: BatchStore, batch: Batch) -> None:
        """Decide on the drafts of lines that an earlier process left, however far the batch may still go."""
        for number in await asyncio.to_thread(store.drafted, batch.id):
            line = await asyncio.to_thread(store.line, batch.id, number)
            await self._runner.settle(store, batch.id, line)

    def _is_calm(self) -> bool:
        """No live work waits for a place in the engine."""
        waiting: int = self._app.state.service.statistics().waiting
        return waiting == 0

    def _ended(self, store: BatchStore, batch_id: str) -> None:
        """Bring a batch whose lines have ended to its own end. Blocking."""
        while (batch := store.batch(batch_id)).status in UNFINISHED:
            try:
                if not self._stepped(store, batch, self.now()):
                    return
            except IllegalStep:
                continue  # it was cancelled meanwhile

    def _stepped(self, store: BatchStore, batch: Batch, now: int) -> bool:
        """Take the next step to a batch's end; whether there was one."""
        if batch.status is Status.IN_PROGRESS and batch.counts.pending:
            if now < batch.expires_at:
                return False
            for number in store.pending(batch.id):
                store.finish_line(batch.id, number, _expired(store.line(batch.id, number)))
                self._metrics.batch_line(failed=True)
            self._end(store, batch, Status.EXPIRED, now)
        elif batch.status is Status.IN_PROGRESS:
            store.step(batch.id, Status.FINALIZING, now)
        elif batch.status is Status.FINALIZING:
            self._end(store, batch, Status.COMPLETED, now)
        elif batch.status is Status.CANCELLING:
            self._end(store, batch, Status.CANCELLED, now)
        else:
            return False
        return True

    def _end(self, store: BatchStore, batch: Batch, status: Status, now: int) -> None:
        store.end(batch.id, status, now)
        self._metrics.batch_ended(status)


class _Faulty(Exception):
    """Something is wrong with a line: the reader's faults say what."""


def _sound(reader: LineReader, pieces: Iterable[bytes]) -> Iterator[Line]:
    """The lines of an input file, one after the other.

    Raises:
        _Faulty: at the end, if one was none.
    """
    for line in reader.lines(pieces):
        if not reader.faults:
            yield line
    if reader.faults:
        raise _Faulty


def endpoints() -> tuple[str, ...]:
    """What a batch may ask."""
    return tuple(ENDPOINTS)


def _expired(line: Line) -> Result:
    error = {"code": "batch_expired", "message": "The batch's time was over before this line was run."}
    text = {"id": None, "custom_id": line.custom_id, "response": None, "error": error}
    return Result(in_one_line(text), failed=True)


def _parse(raw: bytes) -> object:
    try:
        return parse_json(raw)
    except Problem as problem:
        raise ValueError(problem.message.replace("body", "line")) from None
