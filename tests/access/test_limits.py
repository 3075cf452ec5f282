"""Limits: exact, by moving window, in requests, tokens and requests at one time; with a clock that the test holds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from minivault.access.limits import Limits, Quota, Verdict, require_sound
from minivault.access.windows import MemoryWindows, Window
from minivault.errors import ConfigError, InvalidRequest, RateLimited
from tests.access.clock import Clock


class Client:
    """One client's requests, each with a quota of its own, as the server makes them."""

    def __init__(
        self,
        requests: str = "",
        tokens: str = "",
        concurrent: int = 0,
        name: str = "a",
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.limits = limits or Limits(MemoryWindows(self.clock), self.clock)
        self._terms = (self.limits, name, requests, tokens, concurrent)

    def quota(self) -> Quota:
        return Quota.of(*self._terms)

    async def passes(self) -> bool:
        try:
            await self.quota().admit()
        except RateLimited:
            return False
        return True

    async def verdict(self) -> Verdict:
        quota = self.quota()
        with suppress(RateLimited):
            await quota.admit()
        return quota.verdicts["requests"]


async def test_so_many_pass_and_the_next_does_not() -> None:
    client = Client("5/minute")
    assert [await client.passes() for _ in range(6)] == [True] * 5 + [False]


async def test_200_racing_requests_pass_exactly_the_limit() -> None:
    client = Client("50/minute")
    assert sum(await asyncio.gather(*(client.passes() for _ in range(200)))) == 50


async def test_the_window_moves() -> None:
    client = Client("2/minute")
    await client.passes()
    client.clock.now += 40
    await client.passes()
    client.clock.now += 19.9
    refused = await client.verdict()
    client.clock.now += 0.2
    assert (refused.allowed, refused.retry_after, await client.passes()) == (False, 1, True)


async def test_a_refused_request_is_not_counted() -> None:
    client = Client("1/minute")
    await client.passes()
    client.clock.now += 59
    assert not await client.passes()
    client.clock.now += 2
    assert await client.passes()


async def test_retry_after_is_when_the_oldest_is_forgotten() -> None:
    client = Client("2/minute")
    await client.passes()
    client.clock.now += 10
    await client.passes()
    verdict = await client.verdict()
    assert (verdict.remaining, verdict.retry_after, verdict.limit, verdict.window) == (0, 50, 2, 60)


async def test_clients_do_not_share_a_limit() -> None:
    one = Client("1/minute")
    other = Client("1/minute", name="b", limits=one.limits)
    assert await one.passes()
    assert await other.passes()


async def test_of_several_limits_each_holds_and_the_tightest_is_told() -> None:
    client = Client("3/minute; 2/second")
    await client.passes()
    second = await client.verdict()
    assert (second.remaining, second.limit) == (0, 2)
    assert not await client.passes()
    client.clock.now += 1.5
    assert await client.passes()
    assert (await client.verdict()).limit == 3


@pytest.mark.parametrize("spec", ["5/minute; 10/minute", "60/minute; 5/60 second"])
async def test_of_two_limits_of_one_span_the_smaller_holds_and_is_forgotten_in_its_time(spec: str) -> None:
    client = Client(spec)
    for _ in range(3):
        assert [await client.passes() for _ in range(6)] == [True] * 5 + [False]
        client.clock.now += 61


async def test_a_request_that_one_limit_refuses_is_counted_by_none() -> None:
    client = Client("2/minute; 1/second")
    assert [await client.passes() for _ in range(5)] == [True] + [False] * 4
    client.clock.now += 1.5
    assert await client.passes()


async def test_a_limit_that_is_changed_goes_on_from_what_was_used() -> None:
    before = Client("5/minute")
    for _ in range(3):
        await before.passes()
    after = Client("4/minute", limits=before.limits, clock=before.clock)
    assert [await after.passes() for _ in range(2)] == [True, False]


async def test_an_empty_limit_means_none() -> None:
    quota = Client("").quota()
    await quota.admit()
    assert quota.verdicts == {}


@pytest.mark.parametrize("spec", ["many", "5", "0/minute", "-1/minute", "5/fortnight", "1/day;" * 9, "9" * 300])
def test_a_limit_that_cannot_be_read_names_the_setting(spec: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit: must be like 60/minute"):
        require_sound("rate_limit", spec)


async def test_quiet_clients_are_forgotten() -> None:
    clock = Clock()
    windows = MemoryWindows(clock)
    limits = Limits(windows)
    for client in range(1000):
        await Quota.of(limits, str(client), "5/minute").admit()
    clock.now += 61
    for _ in range(1024):
        await Client("5/minute", name="busy", limits=limits).passes()
    assert len(windows) == 1


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_tokens_are_reserved_until_it_is_known_what_was_used() -> None:
    client = Client(tokens="100/minute")
    reservation = await client.quota().reserve(80)
    with pytest.raises(RateLimited, match="20 are left"):
        await client.quota().reserve(30)
    reservation.settle(10)
    await client.quota().reserve(90)
    with pytest.raises(RateLimited):
        await client.quota().reserve(1)


async def test_a_reservation_is_settled_once() -> None:
    client = Client(tokens="100/minute")
    reservation = await client.quota().reserve(80)
    reservation.settle(50)
    reservation.settle(0)
    with pytest.raises(RateLimited):
        await client.quota().reserve(51)


async def test_more_used_than_reserved_counts_too() -> None:
    client = Client(tokens="100/minute")
    (await client.quota().reserve(10)).settle(95)
    with pytest.raises(RateLimited):
        await client.quota().reserve(6)


async def test_a_late_settlement_does_not_touch_the_window_after() -> None:
    client = Client(tokens="100/minute")
    reservation = await client.quota().reserve(80)
    client.clock.now += 61
    await client.quota().reserve(100)
    reservation.settle(0)
    with pytest.raises(RateLimited):
        await client.quota().reserve(1)


async def test_where_no_most_is_known_what_is_left_is_reserved() -> None:
    client = Client(tokens="100/day")
    first = await client.quota().reserve(1_000_000, least=10)
    first.settle(70)
    second = await client.quota().reserve(1_000_000, least=10)
    assert (first.amount, second.amount) == (100, 30)
    with pytest.raises(RateLimited, match="0 are left beside 30 that are held"):
        await client.quota().reserve(1_000_000, least=10)


@pytest.mark.parametrize(("used", "shares"), [(0, [50, 50]), (57, [21, 22]), (80, [10, 10])])
async def test_choices_share_what_a_window_has_left(used: int, shares: list[int]) -> None:
    client = Client(tokens="100/day")
    await client.quota().reserve(used)
    taken = [await client.quota().reserve(1_000_000, least=10, shares=left, beside=10) for left in (2, 1)]
    assert [one.amount for one in taken] == shares


async def test_what_is_left_counts_in_the_tightest_of_several_windows() -> None:
    client = Client(tokens="100/minute; 150/day")
    (await client.quota().reserve(90)).settle(90)
    client.clock.now += 61
    assert (await client.quota().reserve(1_000_000, least=10)).amount == 60


async def test_choices_that_a_window_could_never_hold_together_are_told_before_any_is_taken() -> None:
    client = Client(tokens="100/day")
    await client.quota().reserve(81)
    for least in (None, 20):
        with pytest.raises(InvalidRequest, match="may come to 400 tokens"):
            await client.quota().reserve(20, least=least, shares=20, beside=380)
    await client.quota().reserve(19)


async def test_what_running_requests_hold_is_worth_waiting_for() -> None:
    client = Client(tokens="100/day")
    running = await client.quota().reserve(1_000_000, least=10)
    with pytest.raises(RateLimited, match="0 are left beside 100 that are held for requests that still run") as soon:
        await client.quota().reserve(60)
    assert soon.value.retry_after == 1
    running.settle(70)
    with pytest.raises(RateLimited, match="30 are left, and this request") as late:
        await client.quota().reserve(60)
    assert late.value.retry_after == 86_400


async def test_what_a_window_has_forgotten_is_not_worth_waiting_for() -> None:
    client = Client(tokens="1000/minute")
    running = await client.quota().reserve(600)
    client.clock.now += 70
    (await client.quota().reserve(900)).settle(900)
    with pytest.raises(RateLimited, match="100 are left, and this request") as late:
        await client.quota().reserve(300)
    assert late.value.retry_after == 60
    running.settle(600)


async def test_what_is_left_takes_nothing() -> None:
    clock = Clock()
    storage = MemoryWindows(clock)
    limits, windows = Limits(storage, clock), [Window("tokens/a/60", 10, 60)]
    assert [await limits.left(windows) for _ in range(2)] == [10, 10]
    await limits.take(windows, 4)
    assert await limits.left(windows) == 6
    assert [len(held.entries) for held in storage._held.values()] == [1]


async def test_a_prompt_that_could_never_fit_is_told_as_such() -> None:
    with pytest.raises(InvalidRequest, match="prompt: ") as refused:
        await Client(tokens="100/day").quota().reserve(1_000_000, least=101)
    assert refused.value.param == "prompt"


async def test_retry_after_waits_for_enough_tokens() -> None:
    client = Client(tokens="100/minute")
    for amount in (20, 50, 30):
        (await client.quota().reserve(amount)).settle(amount)
        client.clock.now += 10
    with pytest.raises(RateLimited) as refused:
        await client.quota().reserve(60)
    assert refused.value.retry_after == 40  # the second entry, ten seconds after the first, has to go too


async def test_what_no_window_can_hold_is_refused_for_good() -> None:
    client = Client(tokens="100/minute; 1000/day")
    with pytest.raises(InvalidRequest, match="100 in 60 seconds") as refused:
        await client.quota().reserve(101)
    assert refused.value.param == "max_tokens"


async def test_racing_reservations_never_exceed_the_window() -> None:
    client = Client(tokens="1000/minute")

    async def reserves() -> bool:
        try:
            await client.quota().reserve(30)
        except RateLimited:
            return False
        return True

    assert sum(await asyncio.gather(*(reserves() for _ in range(200)))) == 33


# -- at one time -------------------------------------------------------------------------------------------------------


def test_so_many_run_at_one_time_and_a_place_is_free_again_at_the_end() -> None:
    client = Client(concurrent=2)
    first, second, third = client.quota(), client.quota(), client.quota()
    first.enter()
    second.enter()
    with pytest.raises(RateLimited, match="2 may run") as refused:
        third.enter()
    assert (refused.value.code, refused.value.retry_after) == ("concurrency_limit_exceeded", 1)
    first.leave()
    third.enter()


def test_without_a_limit_any_number_runs() -> None:
    client = Client()
    for _ in range(100):
        client.quota().enter()
    assert client.quota().concurrent == 0
