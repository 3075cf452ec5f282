"""What waits to be settled: tried until it is, no longer than there is something to settle, and bounded."""

from __future__ import annotations

import asyncio

import pytest

from minivault.access import settlements
from minivault.access.settlements import LATE_SECONDS, Settlement, Settlements, unseen
from minivault.access.windows import Window
from tests.access.clock import Clock
from tests.fakes import until

MINUTE = (Window("tokens/a/60", 100, 60),)


class Storage:
    """One that works for the entries that it is told of, once it does."""

    def __init__(self) -> None:
        self.works = True
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.taken: list[str] = []
        self.dropped = 0
        self.clock = Clock()

    async def send(self, settlement: Settlement) -> bool:
        self.asked.append(settlement.entry)
        await asyncio.sleep(0)
        works = self.works and settlement.entry not in self.broken
        if works:
            self.taken.append(settlement.entry)
        return works

    def drop(self) -> None:
        self.dropped += 1

    def settlements(self) -> Settlements:
        return Settlements(self.send, self.drop, self.clock)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(settlements, "FIRST_PAUSE", 0)
    return Storage()


def of(entry: str) -> Settlement:
    return Settlement(MINUTE, 10, 5, entry)


async def test_each_is_settled_once(storage: Storage) -> None:
    waiting = storage.settlements()
    for name in "abc":
        waiting.add(of(name))
    await waiting.settled()
    waiting.add(of("d"))
    await waiting.settled()
    assert (storage.asked, len(waiting)) == (list("abcd"), 0)


async def test_what_fails_is_tried_until_it_works(storage: Storage) -> None:
    waiting = storage.settlements()
    storage.works = False
    waiting.add(of("a"))
    await until(lambda: len(storage.asked) > 3)
    assert len(waiting) == 1
    storage.works = True
    await waiting.settled()
    assert storage.taken == ["a"]


async def test_one_that_never_works_holds_up_no_other(storage: Storage) -> None:
    waiting = storage.settlements()
    storage.broken = {"a"}
    for name in "abc":
        waiting.add(of(name))
    await until(lambda: storage.taken == ["b", "c"])
    assert await waiting.close(0) == 1


async def test_what_its_windows_have_forgotten_is_tried_no_more(storage: Storage) -> None:
    waiting = storage.settlements()
    storage.works = False
    waiting.add(of("a"))
    waiting.add(unseen(MINUTE, 10, "late"))
    await until(lambda: len(storage.asked) > 3)
    storage.clock.now += 60
    await until(lambda: len(waiting) == 1)
    storage.asked.clear()
    await until(lambda: storage.asked)
    assert set(storage.asked) == {"late"}  # its take may still come
    storage.clock.now += LATE_SECONDS
    await waiting.settled()


async def test_so_many_are_kept_and_of_those_that_nobody_saw_half(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlements, "MOST_WAITING", 4)
    waiting = storage.settlements()
    storage.works = False
    for name in "abc":
        waiting.add(unseen(MINUTE, 10, name))
    assert (len(waiting), storage.dropped) == (2, 1)
    for name in "def":
        waiting.add(of(name))
    assert (len(waiting), storage.dropped) == (4, 2)
    storage.works = True
    await waiting.settled()
    assert sorted(storage.taken) == ["a", "b", "d", "e"]


async def test_the_end_waits_for_what_is_left_a_while_and_counts_what_it_gives_up(storage: Storage) -> None:
    waiting = storage.settlements()
    waiting.add(of("a"))
    assert await waiting.close(60) == 0
    assert storage.taken == ["a"]
    waiting.add(of("b"))
    assert (len(waiting), storage.dropped) == (0, 1)
    stuck = storage.settlements()
    storage.works = False
    stuck.add(of("c"))
    stuck.add(of("d"))
    assert await stuck.close(0) == 2


async def test_to_wait_for_it_and_be_cancelled_does_not_end_it(storage: Storage) -> None:
    waiting = storage.settlements()
    await waiting.settled()
    storage.works = False
    waiting.add(of("a"))
    waits = asyncio.ensure_future(waiting.settled())
    await until(lambda: storage.asked)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    storage.works = True
    await waiting.settled()
    assert storage.taken == ["a"]
