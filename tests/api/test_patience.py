"""Waiting that ends when it should."""

from __future__ import annotations

import asyncio

import pytest

from minivault.api.patience import Patience
from tests.fakes import until


async def test_a_part_ends_with_the_whole_and_may_end_before() -> None:
    whole = Patience()
    one, two = whole.part(), whole.part()
    one.end()
    assert (whole.ended, one.ended, two.ended) == (False, True, False)
    whole.end()
    assert two.ended
    assert whole.part().ended


async def test_a_wait_is_over_at_the_end() -> None:
    part = (whole := Patience()).part()
    waiting = asyncio.ensure_future(part.wait(60))
    await asyncio.sleep(0)
    whole.end()
    async with asyncio.timeout(5):
        await waiting


async def test_nobody_keeps_a_place_that_came_too_late() -> None:
    places, patience = asyncio.Semaphore(1), Patience()
    await places.acquire()
    waiting = asyncio.ensure_future(patience.reached(places.acquire(), places.release))
    await asyncio.sleep(0)
    places.release()
    patience.end()
    assert not await waiting
    await until(lambda: not places.locked())


@pytest.mark.parametrize("free_before", [True, False])
async def test_nobody_keeps_a_place_who_was_cancelled(free_before: bool) -> None:
    places, patience = asyncio.Semaphore(1), Patience()
    await places.acquire()
    waiting = asyncio.ensure_future(patience.reached(places.acquire(), places.release))
    for _ in range(3):
        await asyncio.sleep(0)
    if free_before:
        places.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not free_before:
        places.release()
    await until(lambda: not places.locked())
