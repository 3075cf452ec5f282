"""Outcomes that are held back until what they end is kept elsewhere too.

A batch keeps the answer to a line in its own file. If the vault had the outcome first, a crash between the two would
leave a call on record whose answer nobody has; so within :func:`holding` the answer comes first, and the one who holds
says when the outcome follows. Until then nothing is finished: a crash leaves calls that were interrupted. Knows nothing
of batches. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from minivault.generation import FinishReason
from minivault.vault.record import Outcome, Receipt

Receipts = list[asyncio.Future[Receipt]]
Append = Callable[[Sequence[Outcome]], Receipts]
"""Hands over outcomes that become durable together."""
Follow = Callable[[Outcome, asyncio.Future[Receipt]], asyncio.Future[Receipt]]
"""Sees to what comes of one."""
_NO_RECEIPT = Receipt(-1, "")
"""In the place of one that is still to come."""
_ANSWERED = (FinishReason.STOP, FinishReason.LENGTH)


@dataclass(frozen=True, slots=True)
class HeldCall:
    """How a call ends, if the outcome gets there."""

    index: int
    """Of its intent."""
    id: str
    finish_reason: str
    error: str | None


class Held:
    """What is held back of the calls of one answer."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Outcome, Follow]] = []
        self._append: Append = lambda _: []
        self._given_up = False
        self.calls: list[HeldCall] = []

    def take(self, call_id: str, outcome: Outcome, append: Append, follow: Follow) -> asyncio.Future[Receipt]:
        """Hold an outcome. The receipt that comes at once says nothing. One that comes after :meth:`give_up` is not
        held: nobody is left who could let it go."""
        if self._given_up:
            ended = _given_up(outcome)
            return follow(ended, append([ended])[0])
        self._append = append
        self.calls.append(HeldCall(outcome.intent_index, call_id, str(outcome.finish_reason), outcome.error))
        self._waiting.append((outcome, follow))
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        future.set_result(_NO_RECEIPT)
        return future

    async def record(self) -> None:
        """Append all, and wait until they are durable.

        Raises:
            LedgerUnavailable: of one or more this is not sure.
        """
        receipts = self._let_go(lambda outcome: outcome)
        # Shielded: what was handed over is going to be written.
        ended = await asyncio.gather(*map(asyncio.shield, receipts), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one

    def give_up(self) -> None:
        """Nobody gets what is still held: answers are recorded as those of clients that hung up before they came, and
        failures as they are. Idempotent."""
        self._given_up = True
        self._let_go(_given_up)

    def _let_go(self, become: Callable[[Outcome], Outcome]) -> Receipts:
        waiting, self._waiting = self._waiting, []
        outcomes = [become(outcome) for outcome, _ in waiting]
        receipts = self._append(outcomes) if outcomes else []
        together = zip(waiting, outcomes, receipts, strict=True)
        return [follow(outcome, receipt) for (_, follow), outcome, receipt in together]


_HELD: ContextVar[Held | None] = ContextVar("minivault_held", default=None)


@contextmanager
def holding() -> Iterator[Held]:
    """Calls that come to an answer within the block are held. What still is at its end is given up."""
    held = Held()
    token = _HELD.set(held)
    try:
        yield held
    finally:
        _HELD.reset(token)
        held.give_up()


def held_here() -> Held | None:
    """What holds the outcomes of calls that end here, if anything does."""
    return _HELD.get()


def _given_up(outcome: Outcome) -> Outcome:
    """As it is recorded if nobody gets it."""
    if outcome.finish_reason not in _ANSWERED:
        return outcome
    return replace(
        outcome,
        finish_reason=FinishReason.CANCELLED.value,
        response_text="",
        response_token_ids=(),
        completion_tokens=0,
    )
