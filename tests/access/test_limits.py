"""Rate limits: exact, by moving window, with a clock that the test holds."""

from __future__ import annotations

import asyncio

import pytest

from minivault.access.limits import RateLimiter, Verdict
from minivault.errors import ConfigError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def hit(limiter: RateLimiter, key: str = "a") -> Verdict:
    verdict = await limiter.hit(key)
    assert verdict is not None
    return verdict


async def test_so_many_pass_and_the_next_does_not() -> None:
    limiter = RateLimiter("5/minute", Clock())
    assert [(await hit(limiter)).allowed for _ in range(6)] == [True] * 5 + [False]


async def test_200_racing_requests_pass_exactly_the_limit() -> None:
    limiter = RateLimiter("50/minute", Clock())
    verdicts = await asyncio.gather(*(hit(limiter) for _ in range(200)))
    assert sum(verdict.allowed for verdict in verdicts) == 50


async def test_the_window_moves() -> None:
    clock = Clock()
    limiter = RateLimiter("2/minute", clock)
    await hit(limiter)
    clock.now += 40
    await hit(limiter)
    clock.now += 19.9
    refused = await hit(limiter)
    clock.now += 0.2
    assert (refused.allowed, refused.retry_after, (await hit(limiter)).allowed) == (False, 1, True)


async def test_a_refused_request_is_not_counted() -> None:
    clock = Clock()
    limiter = RateLimiter("1/minute", clock)
    await hit(limiter)
    clock.now += 59
    assert not (await hit(limiter)).allowed
    clock.now += 2
    assert (await hit(limiter)).allowed


async def test_retry_after_is_when_the_oldest_is_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter("2/minute", clock)
    await hit(limiter)
    clock.now += 10
    await hit(limiter)
    verdict = await hit(limiter)
    assert (verdict.remaining, verdict.retry_after, verdict.limit, verdict.window) == (0, 50, 2, 60)


async def test_clients_do_not_share_a_limit() -> None:
    limiter = RateLimiter("1/minute", Clock())
    assert (await hit(limiter, "a")).allowed
    assert (await hit(limiter, "b")).allowed


async def test_of_several_limits_each_holds_and_the_tightest_is_told() -> None:
    clock = Clock()
    limiter = RateLimiter("3/minute; 2/second", clock)
    await hit(limiter)
    second = await hit(limiter)
    assert (second.remaining, second.limit) == (0, 2)
    assert not (await hit(limiter)).allowed
    clock.now += 1.5
    assert (await hit(limiter)).allowed
    assert (await hit(limiter)).limit == 3


async def test_an_empty_setting_means_no_limit() -> None:
    limiter = RateLimiter("")
    assert not limiter.enabled
    assert await limiter.hit("a") is None


@pytest.mark.parametrize("spec", ["many", "5", "0/minute", "-1/minute", "5/fortnight"])
def test_a_limit_that_cannot_be_read_names_the_setting(spec: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        RateLimiter(spec)


async def test_quiet_clients_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter("5/minute", clock)
    for client in range(1000):
        await limiter.hit(str(client))
    clock.now += 61
    for _ in range(1024):
        await limiter.hit("busy")
    assert len(limiter._strategy.storage._entries) == 1  # type: ignore[attr-defined]
