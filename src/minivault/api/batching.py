"""Runs batches behind the back of a running server: each line is a request to the route that its batch names.

A line's request id follows from its batch, so that the vault can say whether it was answered before a crash: it is
never run again then, and its answer is read from the record. Live work comes first. Knows nothing of how files and
batches are kept, or of what the routes do. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from fastapi import FastAPI, Request

from minivault.access.caller import Caller
from minivault.access.gate import Gate
from minivault.access.roles import Permission
from minivault.api.body import parse_json
from minivault.api.line_answers import ENDPOINTS, Answer, ask, recorded, refusal
from minivault.api.problems import Problem
from minivault.api.room import Room
from minivault.batches.reading import LineReader
from minivault.batches.store import BatchStore
from minivault.batches.values import UNFINISHED, Batch, IllegalStep, Line, Result, Status
from minivault.errors import InvalidRequest, LedgerUnavailable, MiniVaultError, UnknownRecord
from minivault.one_line import in_one_line
from minivault.telemetry.logging import describe_error, get_logger
from minivault.telemetry.metrics import Metrics

TRANSIENT = (429, 499, 503)
"""Statuses that say nothing of a line: it is tried again."""
LONGEST_WAIT = 60.0
DISK_WAIT = 5.0
DAY = 86_400
ADDRESS = "batch"
CALM_SECONDS = 0.05
"""Between looks at whether live work leaves room."""

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
        self._places = asyncio.Semaphore(bounds.concurrency)
        self._closing = asyncio.Event()
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
                if self.bounds.retention:
                    self._expiry = asyncio.get_running_loop().create_task(self._expire(self._store))
            return self._store

    async def resume(self) -> None:
        """Go on with what an earlier process left."""
        store = await self.store()
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
        task = self._running.get(batch.id)
        if (task is None or task.done()) and not self._closing.is_set():
            self._start(current)  # its task had failed
        return current

    async def close(self) -> None:
        """Begin nothing more, and stop. What was not ended is gone on with by the next process."""
        self._closing.set()
        tasks = [*self._running.values(), *([] if self._expiry is None else [self._expiry])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    def pause(self) -> None:
        """Begin no more lines; those that run may end. Comes before the service is drained."""
        self._closing.set()

    async def _expire(self, store: BatchStore) -> None:
        """Delete the files whose time is over, again and again."""
        while not self._closing.is_set():
            before = int(self._now() - self.bounds.retention * DAY)
            await self._patiently(asyncio.to_thread(store.expire, before))
            await self._wait(LONGEST_WAIT)

    def _start(self, batch: Batch) -> None:
        task = asyncio.get_running_loop().create_task(self._run(batch.id))
        self._running[batch.id] = task
        task.add_done_callback(lambda done: self._forget(batch.id, done))

    def _forget(self, batch_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(batch_id) is task:
            del self._running[batch_id]

    async def _run(self, batch_id: str) -> None:
        try:
            while not await self._patiently(self._lived(batch_id)):
                pass
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # It stays where it is: a cancel, or the next start, goes on with it.
            logger.error("batch stopped", batch=batch_id, **describe_error(error))  # noqa: TRY400 - may hold input

    async def _patiently(self, doing: Awaitable[object]) -> bool:
        """Whether it was done; false after a wait where the disk did not let it. It is then to be tried again."""
        try:
            await doing
        except (LedgerUnavailable, ExceptionGroup) as raised:
            error = _of_the_disk(raised)
            if error is None:
                raise
            logger.warning("batch waits for the disk", **describe_error(error))
            await self._wait(DISK_WAIT if error.retry_after is None else error.retry_after)
            return self._closing.is_set()
        return True

    async def _wait(self, seconds: float) -> None:
        """Over at once when the server closes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), min(seconds, LONGEST_WAIT))

    async def _lived(self, batch_id: str) -> None:
        store = await self.store()
        batch = await asyncio.to_thread(store.batch, batch_id)
        if batch.status is Status.VALIDATING:
            batch = await asyncio.to_thread(self._validated, store, batch)
        if batch.status is Status.IN_PROGRESS:
            await self._run_lines(store, batch)
        if not self._closing.is_set():
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
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(self._work(store, batch, pending))

    async def _work(self, store: BatchStore, batch: Batch, pending: Iterator[int]) -> None:
        """One of a batch's workers: takes the next line until there is none, or the batch goes no further."""
        for number in pending:
            async with self._places:
                await self._until_calm()
                if not await self._goes_on(store, batch):
                    return
                line = await asyncio.to_thread(store.line, batch.id, number)
                result = await self._result(batch, line)
                if result is None:
                    return
                if not await self._kept(store, batch, number, result):
                    return
                self._metrics.batch_line(failed=result.failed)

    async def _kept(self, store: BatchStore, batch: Batch, number: int, result: Result) -> bool:
        """Whether a line's result is on the disk; false if the server shuts down before."""
        while not await self._patiently(asyncio.to_thread(store.finish_line, batch.id, number, result)):
            pass
        return not self._closing.is_set()

    async def _goes_on(self, store: BatchStore, batch: Batch) -> bool:
        if self._closing.is_set() or self.now() >= batch.expires_at:
            return False
        return (await asyncio.to_thread(store.batch, batch.id)).status is Status.IN_PROGRESS

    async def _until_calm(self) -> None:
        """Wait while live work waits for a place in the engine."""
        while self._app.state.service.statistics().waiting > 0 and not self._closing.is_set():  # noqa: ASYNC110
            await asyncio.sleep(CALM_SECONDS)

    async def _result(self, batch: Batch, line: Line) -> Result | None:
        """A line's result; ``None`` if the server shuts down before there is one."""
        attempt = 1
        while True:
            answer = await self._attempt(batch, line, attempt)
            if answer is None:
                attempt += 1
                continue
            if answer.status not in TRANSIENT:
                return _result(batch, line, answer)
            if not self._closing.is_set():
                await self._wait(answer.retry_after)
            if self._closing.is_set():
                return None

    async def _attempt(self, batch: Batch, line: Line, attempt: int) -> Answer | None:
        """Run a line, or read what an earlier process had answered; ``None`` where that one had not come to its end."""
        request_id = f"{batch.id}-{line.number}" + (f"-r{attempt}" if attempt > 1 else "")
        try:
            await self._app.state.service.records.detail(request_id)
        except UnknownRecord:
            pass
        except LedgerUnavailable as error:
            return refusal(batch.endpoint, error, request_id)
        else:
            return await recorded(self._app, batch.endpoint, line.body.encode(), request_id)
        try:
            caller = self._caller_of(batch)
            await caller.quota.admit()
            caller.quota.enter()
        except MiniVaultError as error:
            return refusal(batch.endpoint, error, request_id)
        try:
            return await ask(batch.endpoint, self._request(batch, line, request_id, caller))
        finally:
            caller.quota.leave()

    def _caller_of(self, batch: Batch) -> Caller:
        """The batch's owner, as a line finds them. Batches without keys share one turn in the engine and one limit,
        apart from what is sent live.

        Raises:
            Unauthorized, Forbidden, KeysUnavailable: the key may no longer do this.
        """
        gate: Gate = self._app.state.access
        caller = gate.caller_of_key(batch.owner, batch.address)
        caller.require(Permission.GENERATE)
        if batch.owner is None:
            caller = replace(caller, quota=gate.quota_of_address(ADDRESS))
        return replace(caller, address=ADDRESS)

    def _request(self, batch: Batch, line: Line, request_id: str, caller: Caller) -> Request:
        """A line as a request, whose client stays to the end."""
        body = line.body.encode()
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Mapping[str, object]:
            message = next(given, None)
            if message is None:
                await asyncio.Event().wait()
            return message or {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "app": self._app,
            "method": "POST",
            "path": batch.endpoint,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": (batch.address, 0),
            "state": {"request_id": request_id, "caller": caller},
        }
        return Request(scope, receive)  # type: ignore[arg-type]  # a mapping is a message

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


def _result(batch: Batch, line: Line, answer: Answer) -> Result:
    text = {
        "id": f"batch_req_{batch.id.removeprefix('batch_')}_{line.number}",
        "custom_id": line.custom_id,
        "response": {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body},
        "error": None,
    }
    return Result(in_one_line(text), failed=answer.status != 200)


def _expired(line: Line) -> Result:
    error = {"code": "batch_expired", "message": "The batch's time was over before this line was run."}
    text = {"id": None, "custom_id": line.custom_id, "response": None, "error": error}
    return Result(in_one_line(text), failed=True)


def _parse(raw: bytes) -> object:
    try:
        return parse_json(raw)
    except Problem as problem:
        raise ValueError(problem.message.replace("body", "line")) from None


def _of_the_disk(error: Exception) -> LedgerUnavailable | None:
    """The error, or one of a group's; ``None`` if there are others."""
    if isinstance(error, ExceptionGroup):
        found = [_of_the_disk(one) for one in error.exceptions]
        return None if None in found else found[0]
    return error if isinstance(error, LedgerUnavailable) else None
