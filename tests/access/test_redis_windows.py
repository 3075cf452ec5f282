"""Windows in Redis, against a real one: exact for several servers at once, and nobody let in when it is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from minivault.access.limits import Limits, Quota
from minivault.access.redis_windows import RedisWindows, logger
from minivault.access.windows import Window
from minivault.errors import ConfigError, LimitsUnavailable, RateLimited
from minivault.outage import QUIET_SECONDS, Outage
from tests.access.clock import Clock
from tests.access.redis_server import running_redis


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@asynccontextmanager
async def storage(url: str) -> AsyncIterator[RedisWindows]:
    windows = RedisWindows(url)
    try:
        yield windows
    finally:
        await windows.close()


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
        window = [Window("moves/1", 1, 1)]
        await windows.take(window, 1, "a")
        # By Redis' own clock: what is asked for here is only that the entry goes, not when.
        while (await windows.take(window, 1, "b")).refused_by is not None:
            pass


async def test_what_was_reserved_is_settled(redis_url: str) -> None:
    async with storage(redis_url) as windows:
        limits = Limits(windows)
        quota = Quota.of(limits, "settled", "", "100/minute")
        (await quota.reserve(90)).settle(15)
        await asyncio.gather(*windows._settling)
        await quota.reserve(85)
        with pytest.raises(RateLimited):
            await quota.reserve(1)


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
    async with storage(f"redis://127.0.0.1:{port}") as windows:
        with pytest.raises(LimitsUnavailable, match="does not answer") as refused:
            await windows.take([Window("gone/60", 1, 60)], 1, "a")
        with pytest.raises(LimitsUnavailable, match="does not answer"):
            await windows.check()
        windows.settle([Window("gone/60", 1, 60)], 1, 0, "a")
    assert refused.value.retry_after


async def test_the_log_has_one_line_when_redis_stops_to_answer_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("redis", reason="needs the extra redis: pip install 'minivault[redis]'")
    async with storage("redis://user:secret@127.0.0.1:1") as windows:
        for _ in range(5):
            with pytest.raises(LimitsUnavailable):
                await windows.take([Window("told/60", 1, 60)], 1, "a")
            with pytest.raises(LimitsUnavailable):
                await windows.check()
    assert caplog.messages == [
        "limits cannot be counted, so requests are refused: Redis does not answer (ConnectionError)"
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
