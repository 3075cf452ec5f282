"""Runs one line of a batch to its one result: as a request to the route that its batch names.

What keeps a line from being answered or recorded twice is an order: the answer is kept as a draft, then the outcomes of
its calls go on record, then the draft becomes the line's result. A draft that a crash left is held against the vault:
if its calls ended there as it says, it is the result; if not, nobody has seen it, and it is thrown away. A line that
was under way without a draft is run again, under an id of its own. Knows nothing of batches' lives, of when it is a
line's turn, or of what the routes do. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import Enum, auto

from fastapi import FastAPI, Request

from minivault.access.caller import Caller
from minivault.access.gate import Gate
from minivault.access.roles import Permission
from minivault.api.line_answers import Answer, ask, refusal
from minivault.api.line_tries import Tries, too_many
from minivault.api.patience import Patience
from minivault.api.turns import Turns
from minivault.batches.names import call_id, result_id
from minivault.batches.store import BatchStore
from minivault.batches.values import Batch, Line, Result
from minivault.errors import LedgerUnavailable, MiniVaultError, UnknownRecord
from minivault.one_line import in_one_line
from minivault.service import Held, HeldCall, Service, holding
from minivault.telemetry.metrics import Metrics

ADDRESS = "batch"
UNREADABLE_SECONDS = 1.0
"""Between two tries to read the vault."""
DECIDED_SECONDS = 0.2
"""Between looks at whether the vault, which could not be written, has ended a call by now."""


class _Record(Enum):
    """What the vault says of the calls of a draft."""

    AS_DRAFTED = auto()
    OTHERWISE = auto()
    OPEN = auto()
    """It has not ended one of them yet."""


class LineRunner:
    """For all lines of a server's batches."""

    def __init__(self, app: FastAPI, patience: Patience, metrics: Metrics) -> None:
        self._app = app
        self._patience = patience
        self._metrics = metrics

    async def run(self, store: BatchStore, batch: Batch, number: int, turns: Turns) -> None:
        """Bring a line to its result, unless there are no more ``turns`` before."""
        tries = Tries()
        while True:
            async with turns.place() as given:
                wait = await self._turn(store, batch, number, tries) if given else None
            if wait is None:
                return
            await turns.wait(wait)

    async def _turn(self, store: BatchStore, batch: Batch, number: int, tries: Tries) -> float | None:
        """The seconds to wait before another turn, ``None`` if there need be none."""
        # why no fault of the disk leaves: it would end the other lines' tries, which the vault would count
        try:
            line = await asyncio.to_thread(store.line, batch.id, number)  # each time: it may have been erased
        except LedgerUnavailable:
            return UNREADABLE_SECONDS
        if line.ended or (line.calls is not None and not await self.settle(store, batch.id, line)):
            return None
        try:
            # Earlier tries, of this process or another, which came to no result.
            while not tries.over and await self._is_on_record(call_id(batch.id, number, tries.number)):
                tries.number += 1
            if not tries.over:
                return await self._try(store, batch, line, tries)
        except LedgerUnavailable:
            return UNREADABLE_SECONDS
        last = call_id(batch.id, number, tries.number - 1)
        await self._finish(store, batch.id, number, _result(batch, line, refusal(batch.endpoint, too_many(), last)))
        return None

    async def settle(self, store: BatchStore, batch_id: str, line: Line) -> bool:
        """Decide on the draft of a line by what the vault has of its calls; whether it is to be run (again).

        Returns false also when the server closes before it is known.
        """
        calls = [HeldCall(**call) for call in json.loads(line.calls or "[]")]
        while not self._patience.ended:
            try:
                found = await self._found(calls)
            except LedgerUnavailable:
                found = _Record.OPEN
            if found is _Record.AS_DRAFTED:
                await self._release(store, batch_id, line.number)
                return False
            if found is _Record.OTHERWISE:
                if await self._kept(store.drop_draft, batch_id, line.number):
                    return True
                continue
            await self._patience.wait(DECIDED_SECONDS)
        return False

    async def _try(self, store: BatchStore, batch: Batch, line: Line, tries: Tries) -> float | None:
        """Ask, and keep what came; the seconds to wait before another try, ``None`` if there need be none."""
        with holding() as held:
            answer = await self._answer(batch, line, tries)
            if (wait := tries.wait_after(answer, recorded=bool(held.calls))) is not None:
                return wait
            result = _result(batch, line, answer)
            if not held.calls:
                await self._finish(store, batch.id, line.number, result)
                return None
            calls = json.dumps([asdict(call) for call in held.calls])
            if not await self._drafted(store, batch.id, line.number, result, calls):
                return None  # what is held is given up: nobody gets it
            # Point of no return: from here on the vault decides.
            recorded = await self._recorded(held)
        drafted = replace(line, calls=calls)
        if recorded:
            await self._release(store, batch.id, line.number)
            return None
        return 0.0 if await self.settle(store, batch.id, drafted) else None

    async def _recorded(self, held: Held) -> bool:
        """Whether the outcomes are durable; if not, it is not sure that they are not."""
        try:
            await held.record()
        except MiniVaultError:
            return False
        return True

    async def _finish(self, store: BatchStore, batch_id: str, number: int, result: Result) -> None:
        if await self._kept(store.finish_line, batch_id, number, result):
            self._metrics.batch_line(failed=result.failed)

    async def _drafted(self, store: BatchStore, batch_id: str, number: int, result: Result, calls: str) -> bool:
        """Whether there is a draft. There is none if the server closes, or if the line was erased while it ran."""
        drafted: list[bool] = []

        def draft() -> None:
            drafted.append(store.draft_line(batch_id, number, result, calls))

        return await self._kept(draft) and drafted[-1]

    async def _release(self, store: BatchStore, batch_id: str, number: int) -> None:
        released: list[bool | None] = []
        if await self._kept(lambda: released.append(store.release_draft(batch_id, number))) and released[0] is not None:
            self._metrics.batch_line(failed=released[0])

    async def _kept(self, write: Callable[..., None], *values: object) -> bool:
        """Whether it is on the disk; false if the server closes before."""
        while not await self._patience.done(asyncio.to_thread(write, *values)):
            if self._patience.ended:
                return False
        return True

    async def _found(self, calls: list[HeldCall]) -> _Record:
        """
        Raises:
            LedgerUnavailable: the vault cannot be read.
        """
        found = [await self._found_one(call) for call in calls]
        if _Record.OPEN in found:
            return _Record.OPEN
        return _Record.OTHERWISE if _Record.OTHERWISE in found else _Record.AS_DRAFTED

    async def _found_one(self, drafted: HeldCall) -> _Record:
        try:
            detail = await self._service.records.detail(drafted.id)
        except UnknownRecord:
            return _Record.OTHERWISE
        if detail.outcome is None:
            return _Record.OPEN
        same = (detail.call.index, detail.call.finish_reason, detail.outcome.get("error"))
        wanted = (drafted.index, drafted.finish_reason, drafted.error)
        return _Record.AS_DRAFTED if same == wanted else _Record.OTHERWISE

    async def _is_on_record(self, request_id: str) -> bool:
        try:
            await self._service.records.detail(request_id)
        except UnknownRecord:
            return False
        return True

    async def _answer(self, batch: Batch, line: Line, tries: Tries) -> Answer:
        request_id = call_id(batch.id, line.number, tries.number)
        try:
            caller = self._caller_of(batch)
            with _counted(caller):  # first, since this may be tried often, and takes nothing that stays taken
                if not tries.counted:
                    await caller.quota.admit()
                    tries.counted = True
                return await ask(batch.endpoint, self._request(batch, line, request_id, caller))
        except MiniVaultError as error:
            return refusal(batch.endpoint, error, request_id)

    @property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service

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


@contextmanager
def _counted(caller: Caller) -> Iterator[None]:
    """A request of the caller's among those at one time.

    Raises:
        RateLimited: they have too many.
    """
    caller.quota.enter()
    try:
        yield
    finally:
        caller.quota.leave()


def _result(batch: Batch, line: Line, answer: Answer) -> Result:
    text = {
        "id": result_id(batch.id, line.number),
        "custom_id": line.custom_id,
        "response": {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body},
        "error": None,
    }
    return Result(in_one_line(text), failed=answer.status != 200)
