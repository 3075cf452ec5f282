"""Windows in Redis, against a real one: exact for several servers at once, and nobody let in when it is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from minivault.access import redis_windows
from minivault.access.limits import Limits, Quota
from minivault.access.redis_windows import RedisWindows, logger
from minivault.access.settlements import Settlement, unseen
from minivault.access.windows import Window
from minivault.errors import ConfigError, LimitsUnavailable, RateLimited
from minivault.outage import QUIET_SECONDS, Outage
from tests.access.clock import Clock
from tests.access.redis_server import running_redis
from tests.fakes import until


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@asynccontextmanager
async def storage(url: str, patience: float = 30) -> AsyncIterator[RedisWindows]:
    windows = RedisWindows(url, patience)
    try:
        yield windows
    finally:
        await windows.close()


def hurried(url: str, monkeypatch: pytest.MonkeyPatch) -> AbstractAsyncContextManager[RedisWindows]:
    """One that waits for an answer for a short time alone."""
    monkeypatch.setattr(redis_windows, "TIMEOUT_SECONDS", 0.5)
    return storage(url)


async def passes(limits: Limits, client: str, spec: str) -> bool:
    try:
        await Quota.of(limits, client, spec).admit()
    except RateLimited:
        return False
    return True


async def test_200_racing_requests_to_two_servers_pass_exactly_the_limit(redis_url: str) -> None:
    async with storage(redis_url) as one, storage(redis_url) as other:
        servers = [Limits(one), Limits(other)]
        racing = (passes(servers[number % 2], "racing", "50/minute; 1000/hour") for number in range(200))
        assert sum(await asyncio.gather(*racing)) == 50


async def test_what_one_window_refuses_is_counted_by_none(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        pair = [Window("none/60", 10, 60), Window("none/1", 1, 3600)]
        takes = [await windows.take(pair, 1, f"e{number}") for number in range(3)]
    assert [take.refused_by for take in takes] == [None, 1, 1]
    assert [take.states[0].used for take in takes] == [1, 1, 1]


async def test_a_refusal_says_when_there_is_room(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        window = [Window("room/60", 100, 60)]
        await windows.take(window, 90, "a")
        refused = await windows.take(window, 20, "b")
    assert refused.refused_by == 0
    assert 58 < refused.states[0].reset <= 60


async def test_the_window_moves(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        window, entries = [Window("moves/60", 1, 60)], "minivault:{moves/60}:entries"
        await windows.take(window, 1, "a")
        [(entry, at)] = await windows._redis.zrange(entries, 0, -1, withscores=True)
        # By Redis' own clock, so it is the entry that is moved.
        await windows._redis.zadd(entries, {entry: at - 30e6})
        assert (await windows.take(window, 1, "b")).refused_by == 0
        await windows._redis.zadd(entries, {entry: at - 60e6})
        assert (await windows.take(window, 1, "b")).refused_by is None
        assert (await windows.take(window, 1, "c")).refused_by == 0


async def test_what_was_reserved_is_settled(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        limits = Limits(windows)
        quota = Quota.of(limits, "settled", "", "100/minute")
        (await quota.reserve(90)).settle(15)
        await windows._settlements.settled()
        await quota.reserve(85)
        with pytest.raises(RateLimited):
            await quota.reserve(1)


async def test_what_is_settled_in_a_redis_that_stands_still_is_settled_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_redis(tmp_path) as server:
        async with storage(server.url) as patient, hurried(server.url, monkeypatch) as windows:
            limits = Limits(windows)
            quota = Quota.of(limits, "still", "", "1000/day")
            held = [await quota.reserve(40) for _ in range(20)]
            with server.frozen():
                for reservation in held:
                    reservation.settle(5)
                await until(lambda: caplog.messages)
            await windows._settlements.settled()
            assert await Limits(patient).left(quota.tokens) == 1000 - 20 * 5
    assert caplog.messages[0].endswith("Redis does not answer (TimeoutError)")


async def test_a_take_that_got_no_answer_in_time_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_redis(tmp_path) as server:
        async with storage(server.url) as patient, hurried(server.url, monkeypatch) as windows:
            limits = Limits(windows)
            quota = Quota.of(limits, "slow", "10/day", "1000/day")
            await windows.check()
            with server.frozen():
                asked = [ask for _ in range(3) for ask in (quota.reserve(40), quota.admit())]
                refused = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(error) for error in refused] == [LimitsUnavailable] * 6
            await windows._settlements.settled()
            left = [await Limits(patient).left(one) for one in (quota.requests, quota.tokens)]
            assert left == [10, 1000]


@pytest.mark.parametrize("turns", range(12))
async def test_a_take_whose_client_hung_up_is_given_back(redis_url: str, turns: int) -> None:
    async with storage(redis_url) as windows:
        limits = Limits(windows)
        quota = Quota.of(limits, f"hung-up-{turns}", "", "1000/day")
        await limits.left(quota.tokens)  # which connects
        for _ in range(8):
            taking = asyncio.ensure_future(quota.reserve(40))
            for _ in range(turns):
                await asyncio.sleep(0)
            taking.cancel()
            for done in await asyncio.gather(taking, return_exceptions=True):
                if not isinstance(done, BaseException):
                    done.settle(0)
        await windows._settlements.settled()
        assert await limits.left(quota.tokens) == 1000


async def test_what_was_given_back_before_it_came_is_not_counted(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        window = [Window("early/60", 10, 60), Window("early/1", 10, 3600)]
        assert await windows._settled(unseen(window, 7, "early"))
        assert [state.used for state in (await windows.take(window, 7, "early")).states] == [0, 0]
        assert 0 < await windows._redis.ttl("minivault:gone:early") <= 3600
        await windows.take(window, 7, "in-time")
        assert await windows._settled(unseen(window, 7, "in-time"))
        assert not await windows._redis.exists("minivault:gone:in-time")  # it had come


async def test_to_settle_the_same_again_changes_nothing(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        window = [Window("again/60", 10, 60)]
        await windows.take(window, 7, "a")
        for _ in range(3):
            assert await windows._settled(Settlement(tuple(window), 7, 2, "a"))
        assert (await windows.take(window, 0, "")).states[0].used == 2


async def test_more_than_can_wait_to_be_settled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    windows = RedisWindows("redis://127.0.0.1:1")
    await windows.close()
    windows.settle([Window("told/60", 1, 60)], 1, 0, "a")
    assert "too much waits to be settled" in caplog.text


async def test_a_sum_that_redis_threw_away_is_counted_again(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        window = [Window("lost/60", 10, 60)]
        await windows.take(window, 7, "a")
        await windows._redis.delete("minivault:{lost/60}:sum")
        assert (await windows.take(window, 1, "b")).states[0].used == 8


async def test_without_redis_nobody_comes_in() -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with storage(f"redis://127.0.0.1:{port}", patience=0) as windows:
        with pytest.raises(LimitsUnavailable, match="does not answer") as refused:
            await windows.take([Window("gone/60", 1, 60)], 1, "a")
        with pytest.raises(LimitsUnavailable, match="does not answer"):
            await windows.check()
    assert refused.value.retry_after


async def test_the_log_has_one_line_when_redis_stops_to_answer_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    async with storage("redis://user:secret@127.0.0.1:1", patience=0) as windows:
        windows.settle([Window("told/60", 1, 60)], 1, 0, "a")
        for number in range(5):
            with pytest.raises(LimitsUnavailable):
                await windows.take([Window("told/60", 1, 60)], 1, f"b{number}")
            with pytest.raises(LimitsUnavailable):
                await windows.check()
    assert caplog.messages == [
        "limits cannot be counted, so requests are refused: Redis does not answer (ConnectionError)",
        "not settled in Redis at the end, so counted until the windows have passed: 6",
    ]


async def test_the_log_says_when_redis_answers_again(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with storage(redis_url) as windows:
        clock = Clock()
        windows._outage = Outage(logger, "limits are gone", "limits are back", clock)
        windows._outage.fails("it is said so")
        clock.now += QUIET_SECONDS
        await windows.check()
        await windows.take([Window("back/60", 1, 60)], 1, "a")
    assert caplog.messages == ["limits are gone: it is said so", "limits are back"]


async def test_one_that_answers_and_takes_no_writes_cannot_count(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        await windows.check()
        await windows._redis.config_set("maxmemory", 1)
        try:
            assert await windows._redis.ping()
            with pytest.raises(LimitsUnavailable):
                await windows.check()
        finally:
            await windows._redis.config_set("maxmemory", 0)
        await windows.check()


async def test_what_is_left_takes_nothing(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        limits, window = Limits(windows), Window("left/60", 10, 60)
        assert [await limits.left([window]) for _ in range(2)] == [10, 10]
        await limits.take([window], 4)
        assert await limits.left([window]) == 6
        assert await windows._redis.zcard("minivault:{left/60}:entries") == 1


@pytest.mark.parametrize("uri", ["http://localhost", "redis", ""])
def test_an_address_that_is_none_names_the_setting(uri: str) -> None:  # with or without the extra
    with pytest.raises(ConfigError, match="limits_storage"):
        RedisWindows(uri)
