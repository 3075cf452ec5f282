"""Outcomes that are held back: recorded together, given up together, and none is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from minivault.service.held import Held, holding
from minivault.vault.record import Outcome, Receipt


class Book:
    """Takes outcomes, each durable at once."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.followed: list[tuple[str, int]] = []

    def append(self, outcomes: Sequence[Outcome]) -> list[asyncio.Future[Receipt]]:
        receipts = []
        for outcome in outcomes:
            self.outcomes.append(outcome)
            receipts.append(asyncio.get_running_loop().create_future())
            receipts[-1].set_result(Receipt(len(self.outcomes), "leaf"))
        return receipts

    def follow(self, outcome: Outcome, receipt: asyncio.Future[Receipt]) -> asyncio.Future[Receipt]:
        self.followed.append((outcome.finish_reason, receipt.result().index))
        return receipt


def take(held: Held, book: Book, reason: str) -> asyncio.Future[Receipt]:
    outcome = Outcome(0, reason, "said", (1, 2), 3, 2, {"total_ns": 1})
    return held.take("call", outcome, book.append, book.follow)


async def test_what_is_recorded_is_as_it_was() -> None:
    book = Book()
    with holding() as held:
        take(held, book, "stop")
        assert book.outcomes == []
        await held.record()
    assert [one.response_text for one in book.outcomes] == ["said"]
    assert book.followed == [("stop", 1)]


async def test_what_nobody_gets_is_recorded_as_cancelled_without_words() -> None:
    book = Book()
    with holding() as held:
        take(held, book, "length")
        take(held, book, "failed")
    assert [(one.finish_reason, one.response_text) for one in book.outcomes] == [("cancelled", ""), ("failed", "said")]


async def test_an_outcome_that_comes_after_all_was_given_up_is_recorded_at_once() -> None:
    book = Book()
    with holding() as held:
        pass
    receipt = take(held, book, "stop")
    assert (await receipt).index == 1
    assert book.followed == [("cancelled", 1)]
    assert (book.outcomes[0].response_text, book.outcomes[0].completion_tokens) == ("", 0)
