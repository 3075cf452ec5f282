"""The calls of a service: each takes a place, has a durable intent, and gets its one outcome, whatever happens.

Knows nothing of what is asked or how it is answered. Owned by the event loop; the ledger is met through a future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from minivault.access.caller import Caller
from minivault.access.limits import Reservation
from minivault.errors import Draining, MiniVaultError, limit_of
from minivault.generation import FinishReason
from minivault.service.admission import Line, Pace, Place, Places
from minivault.service.deadline import least
from minivault.service.figures import finished_request
from minivault.service.held import held_here
from minivault.service.limits import ServiceLimits
from minivault.service.ports import Book, ModelLease
from minivault.service.prepared import Prepared
from minivault.service.texts import PreparedTexts
from minivault.service.traced import traced
from minivault.telemetry.logging import get_logger
from minivault.telemetry.metrics import Metrics
from minivault.telemetry.tracing import NO_TRACING, Tracing
from minivault.vault.record import Intent, Outcome, Receipt

logger = get_logger(__name__)


class Call(Protocol):
    """A call, from its intent on."""

    @property
    def id(self) -> str: ...

    def run_ahead(self) -> None:
        """Begin work that may be in vain, while the intent is being made durable. Must not raise, or show anything."""

    def recorded(self, intent: Receipt) -> None:
        """The intent is durable."""

    def give_up(self) -> None:
        """The intent never will be: end what ran ahead. There is nothing to record."""

    def abandon(self) -> None:
        """The caller is gone: stop working for it."""

    def abort(self, error: MiniVaultError) -> None:
        """End it with ``error`` for its reader."""

    def close(self) -> None:
        """End it, whether anybody reads it or not."""


C = TypeVar("C", bound=Call)


class Admitted(Protocol):
    """What a request holds that has passed its checks."""

    @property
    def caller(self) -> Caller: ...
    @property
    def lease(self) -> ModelLease: ...
    @property
    def place(self) -> Place: ...
    @property
    def reservation(self) -> Reservation: ...


def let_go(admitted: Admitted, used: int = 0) -> None:
    """Give back what a request held, of whose tokens so many were ``used``. Idempotent."""
    admitted.reservation.settle(used)
    admitted.place.release()
    admitted.lease.release()


class Calls:
    """From the place in the line to the outcome."""

    def __init__(
        self,
        ledger: Book,
        limits: ServiceLimits,
        metrics: Metrics,
        now_ns: Callable[[], int],
        utc_now: Callable[[], str],
    ) -> None:
        self.metrics = metrics
        self.tracing: Tracing = NO_TRACING
        self.now_ns = now_ns
        self.utc_now = utc_now
        self.draining = False
        """No request is admitted any more."""
        self.finished = 0
        """Calls with a durable outcome."""
        self._total_ns = 0
        self._ledger = ledger
        self._limits = limits
        self._pace = Pace(now_ns)
        self._line = Line(limits.max_waiting_tokens, self._pace)
        self._places = Places(limits.max_running, limits.max_waiting, self._pace)
        self._open: set[Call] = set()
        self._orphans: set[asyncio.Task[None]] = set()
        self._all_settled = asyncio.Event()
        self._all_settled.set()
        self._drain: asyncio.Task[None] | None = None
        self._aborted: MiniVaultError | None = None
        """What open calls were ended with, and those are whose intent becomes durable only now."""

    @property
    def open(self) -> int:
        """How many have begun and have no outcome yet."""
        return len(self._open)

    @property
    def average_ms(self) -> float:
        """How long the finished ones took."""
        return round(self._total_ns / self.finished / 1e6, 3) if self.finished else 0.0

    # -- places

    def admit(self, caller: Caller, count: int = 1) -> None:
        """Take places among the requests that run and wait, for so many choices of one request.

        Raises:
            InvalidRequest: one caller never gets so many, so waiting would not help.
            Draining, Overloaded: there are none, or the last are kept for callers who have fewer.
        """
        try:
            if self.draining:
                raise Draining("The server is shutting down.", retry_after=5)
            self._places.enter(caller.api_key_id, count)
        except MiniVaultError as error:
            self.metrics.rejected(error.code)
            raise
        self._all_settled.clear()

    def leave(self, caller: Caller, count: int = 1) -> None:
        """Give places back that :meth:`admit` took."""
        self._places.leave(caller.api_key_id, count)
        if self._places.taken == 0:
            self._all_settled.set()

    def refused(self, error: BaseException, caller: Caller, count: int = 1) -> None:
        """Requests that had places did not pass their checks."""
        self.leave(caller, count)
        if isinstance(error, MiniVaultError):
            self.metrics.rejected(error.code, limit_of(error))

    def give_up(self, admitted: Admitted) -> None:
        """An admitted request is over before it was recorded."""
        let_go(admitted)
        self.leave(admitted.caller)

    def wait_in_line(self, tokens: int, caller: Caller) -> Place:
        """A place for a prompt among those that wait.

        Raises:
            Overloaded: they are too many tokens already, or the caller's are.
        """
        return self._line.enter(tokens, caller.api_key_id)

    def require_room_in_line(self, tokens: Sequence[int], caller: Caller) -> None:
        """
        Raises:
            InvalidRequest: the prompts of one request's choices are never in the line together.
        """
        self._line.require_room(tokens, caller.api_key_id)

    def limit_for(self, caller: Caller, asked: float | None = None) -> float | None:
        """Seconds that a request may take: the tightest of what it, its caller and the settings say."""
        return least(asked, caller.timeout, self._limits.request_timeout)

    # -- from the intent to the outcome

    async def begin(self, admitted: Admitted, intent: Callable[[], Intent], make: Callable[[], C]) -> C:
        """Make the intent of an admitted request durable. The call may work meanwhile, unless nothing can be recorded.

        Raises:
            LedgerUnavailable: it could not be made durable. The request is given up.
        """
        try:
            call = make()
            appended = self._ledger.append_intent(intent())
        except BaseException:
            self.give_up(admitted)
            raise
        if not appended.done() and self._ledger.status().writable:
            call.run_ahead()
        future = asyncio.wrap_future(appended)
        try:
            receipt = await asyncio.shield(future)  # cancelling it would cancel the append
        except asyncio.CancelledError:
            call.abandon()
            self._spawn(self._close_orphan(admitted, call, future))
            raise
        except BaseException:
            self._never_began(admitted, call)
            raise
        return self._began(call, receipt)

    def _began(self, call: C, intent: Receipt) -> C:
        call.recorded(intent)
        self._open.add(call)
        if self._aborted is not None:
            call.abort(self._aborted)
        return call

    def _never_began(self, admitted: Admitted, call: Call) -> None:
        call.give_up()
        self.give_up(admitted)

    async def _close_orphan(self, admitted: Admitted, call: Call, intent: asyncio.Future[Receipt]) -> None:
        """The caller left while the intent was being written: give the intent its outcome."""
        try:
            receipt = await intent
        except Exception:
            self._never_began(admitted, call)  # never durable, so there is nothing to end
            return
        self._began(call, receipt).close()

    def append_outcome(
        self, call: Call, prepared: Prepared | PreparedTexts, outcome: Outcome, used: int | None = None
    ) -> asyncio.Future[Receipt]:
        """Record how a call ended, or have that held back; once it is durable, or never will be, the call is over.

        ``used``: tokens that count for the caller's windows; by default those of ``outcome``.
        """
        spent = outcome.prompt_tokens + outcome.completion_tokens if used is None else used

        def follow(ended: Outcome, receipt: asyncio.Future[Receipt]) -> asyncio.Future[Receipt]:
            receipt.add_done_callback(lambda done: self._settled(call, prepared, ended, spent, done))
            return receipt

        held = held_here()
        if held is None or outcome.finish_reason == FinishReason.CANCELLED:
            return follow(outcome, _on_this_loop(lambda: self._ledger.append_outcome(outcome)))
        return held.take(call.id, outcome, self._append_together, follow)

    def _append_together(self, outcomes: Sequence[Outcome]) -> list[asyncio.Future[Receipt]]:
        """Of one answer."""
        try:
            return [asyncio.wrap_future(receipt) for receipt in self._ledger.append_outcomes(outcomes)]
        except Exception as error:
            return [_failed(error) for _ in outcomes]

    def _settled(
        self,
        call: Call,
        prepared: Prepared | PreparedTexts,
        outcome: Outcome,
        spent: int,
        done: asyncio.Future[Receipt],
    ) -> None:
        """Only durable outcomes are counted."""
        self._open.discard(call)
        self._pace.ended()
        let_go(prepared, spent)
        self.leave(prepared.caller)
        if done.cancelled() or done.exception() is not None:
            logger.error("outcome not durable", request_id=call.id, intent=outcome.intent_index)
            return
        self.finished += 1
        self._total_ns += outcome.timings["total_ns"]
        self.tracing.call(traced(prepared, call.id, outcome, done.result()))
        self.metrics.finished(finished_request(prepared, outcome))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)

    # -- the end

    async def drain(self, patience: float) -> None:
        """Refuse new work, let running work end for ``patience`` seconds, abort the rest, and see it all recorded.

        Later calls wait for the first one's end; a caller that is cancelled does not end it.
        """
        self.draining = True
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drained(patience))
        await asyncio.shield(self._drain)

    async def _drained(self, patience: float) -> None:
        if await self._settle_within(patience):
            return
        self._aborted = Draining("The server shut down before the answer ended.")
        for call in list(self._open):
            call.abort(self._aborted)
        if await self._settle_within(self._limits.abort_grace):
            return
        for call in list(self._open):  # their readers do not read
            call.close()
        await self._settle_within(self._limits.abort_grace)

    async def _settle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._all_settled.wait()
        except TimeoutError:
            return False
        return True


def _on_this_loop(append: Callable[[], Future[Receipt]]) -> asyncio.Future[Receipt]:
    """The ledger's future as one of this loop. Await it shielded: cancelling it would cancel the append."""
    try:
        return asyncio.wrap_future(append())
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> asyncio.Future[Receipt]:
    failed: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    return failed
