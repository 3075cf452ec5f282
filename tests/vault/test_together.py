"""Outcomes that make one answer end their calls in one transaction."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from minivault.vault.book import MAX_GROUP, Draft
from minivault.vault.inbox import Entry, Inbox
from tests.vault.samples import intent, open_ledger, outcome


def entry(*, with_next: bool) -> Entry:
    return Entry(Draft(outcome(0), 0), Future(), 1.0, with_next)


def test_what_is_given_together_is_one_group_however_long() -> None:
    inbox = Inbox(10 * MAX_GROUP)
    alone = [entry(with_next=False) for _ in range(MAX_GROUP - 1)]
    for one in alone:
        inbox.put(one)
    together = [entry(with_next=place < MAX_GROUP) for place in range(MAX_GROUP + 1)]
    inbox.put(*together)
    last = entry(with_next=False)
    inbox.put(last)
    assert inbox.take(lambda: None) == alone + together
    assert inbox.take(lambda: None) == [last]


def test_what_is_given_together_is_refused_together() -> None:
    inbox = Inbox(2)
    assert inbox.put(*(entry(with_next=place < 2) for place in range(3))) is not None
    assert inbox.put(entry(with_next=False)) is None


def test_calls_of_one_answer_end_in_one_commit(tmp_path: Path) -> None:
    groups: list[int] = []
    ledger = open_ledger(tmp_path, observer=lambda _, count: groups.append(count))
    begun = [ledger.append_intent(intent(number)).result(10).index for number in range(3)]
    groups.clear()
    receipts = [one.result(10) for one in ledger.append_outcomes([outcome(index) for index in begun])]
    ledger.close()
    assert [receipt.index for receipt in receipts] == [3, 4, 5]
    assert groups == [3]
