"""The threads for what comes before an answer: how long work waits for one, and how long it may take then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from minivault.errors import InvalidRequest, Overloaded
from minivault.models.threads import Limit, Threads

LATE = InvalidRequest("It took too long.")


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What held work waits for; set at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def pool(go: threading.Event) -> Iterator[Callable[..., Threads]]:
    made: list[Threads] = []

    def make(count: int = 1, patience: float = 60) -> Threads:
        made.append(Threads("test", count, patience))
        return made[-1]

    yield make
    go.set()
    for threads in made:
        threads.close()


async def taken(threads: Threads, go: threading.Event) -> asyncio.Future[bool]:
    """Work that holds a thread until ``go``, and has begun."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> bool:
        loop.call_soon_threadsafe(begun.set)
        return go.wait(60)

    held = asyncio.ensure_future(threads.do(hold))
    await begun.wait()
    return held


async def test_work_gives_its_value_and_its_errors(pool: Callable[..., Threads]) -> None:
    threads = pool()
    assert await threads.do(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await threads.do(lambda: 1 // 0)


async def test_work_sees_the_context_of_its_caller(pool: Callable[..., Threads]) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("the caller's")
    assert await pool().do(variable.get) == "the caller's"


async def test_work_that_takes_too_long_is_told_so(pool: Callable[..., Threads], go: threading.Event) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        await pool().do(lambda: go.wait(60), Limit(0.01, LATE))


async def test_waiting_for_a_thread_takes_nothing_of_the_works_own_time(
    pool: Callable[..., Threads], go: threading.Event
) -> None:
    threads = pool()
    held = await taken(threads, go)
    waiting = asyncio.ensure_future(threads.do(lambda: 5, Limit(2.0, LATE)))
    done, _ = await asyncio.wait((waiting,), timeout=2.2)
    assert not done, "its time was over before it began"
    go.set()
    assert (await waiting, await held) == (5, True)


async def test_waiting_too_long_for_a_thread_is_an_overload_and_nothing_is_begun(
    pool: Callable[..., Threads], go: threading.Event
) -> None:
    threads = pool(patience=0.01)
    held = await taken(threads, go)
    begun: list[int] = []
    with pytest.raises(Overloaded) as refused:
        await threads.do(lambda: begun.append(1), Limit(0.001, LATE))
    assert refused.value.retry_after == 0.01
    go.set()
    assert await held
    assert await threads.do(lambda: list(begun)) == []


async def test_who_gives_up_leaves_the_line(pool: Callable[..., Threads], go: threading.Event) -> None:
    threads = pool()
    held = await taken(threads, go)
    begun: list[int] = []
    waiting = asyncio.ensure_future(threads.do(lambda: begun.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await held
    assert await threads.do(lambda: list(begun)) == []


def test_one_pool_serves_several_loops(pool: Callable[..., Threads]) -> None:
    threads = pool()

    async def ask() -> int:
        return await threads.do(lambda: 5)

    assert [asyncio.run(ask()), asyncio.run(ask())] == [5, 5]


def test_work_may_outlive_its_loop(pool: Callable[..., Threads], go: threading.Event) -> None:
    threads = pool()
    seen: list[bool] = []

    async def ask() -> None:
        with pytest.raises(InvalidRequest):
            await threads.do(lambda: seen.append(go.wait(60)), Limit(0.01, LATE))

    asyncio.run(ask())
    go.set()
    threads.close()
    assert seen == [True]
