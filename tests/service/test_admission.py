"""How long those are told to wait who find no place, and how many tokens may."""

from __future__ import annotations

import pytest

from minivault.errors import Overloaded
from minivault.service.admission import FIRST_GUESS_SECONDS, LEAST_SECONDS, MOST_SECONDS, Line, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now

    def goes_on(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


def paced(clock: Clock, *, calls: int, every: float) -> Pace:
    pace = Pace(clock)
    for _ in range(calls):
        pace.ended()
        clock.goes_on(every)
    return pace


def test_who_is_refused_first_waits_as_long_as_a_call_takes_to_end() -> None:
    assert paced(Clock(), calls=10, every=3).refused() == pytest.approx(3)


def test_each_who_is_refused_gets_a_place_of_their_own() -> None:
    pace = paced(Clock(), calls=10, every=3)
    assert [pace.refused() for _ in range(3)] == pytest.approx([3, 6, 9])


def test_those_refused_long_ago_have_come_back() -> None:
    clock = Clock()
    pace = paced(clock, calls=60, every=0.1)
    for _ in range(100):
        pace.refused()
    for _ in range(300):
        pace.ended()
        clock.goes_on(0.1)
    assert pace.refused() == LEAST_SECONDS


def test_a_server_that_stands_still_promises_nothing() -> None:
    clock = Clock()
    pace = paced(clock, calls=5, every=1)
    clock.goes_on(100)
    assert pace.refused() > 100


def test_before_anything_has_ended_it_is_a_guess() -> None:
    pace = Pace(Clock())
    assert [pace.refused() for _ in range(3)] == [FIRST_GUESS_SECONDS] * 3


def test_the_wait_is_bounded() -> None:
    pace = paced(Clock(), calls=2, every=1000)
    assert pace.refused() == MOST_SECONDS
    assert paced(Clock(), calls=100, every=0.001).refused() == LEAST_SECONDS


def test_tokens_beyond_the_cap_are_refused_until_others_have_begun() -> None:
    line = Line(100, Pace(Clock()))
    first = line.enter(60, "a")
    with pytest.raises(Overloaded) as caught:
        line.enter(41, "b")
    assert caught.value.retry_after
    second = line.enter(40, "b")
    first.release()
    first.release()
    assert line.tokens == 40
    second.release()
    assert line.tokens == 0


def test_who_waits_with_many_tokens_leaves_room_for_others() -> None:
    line = Line(100, Pace(Clock()))
    for _ in range(8):
        line.enter(10, "a")
    with pytest.raises(Overloaded):
        line.enter(10, "a")
    assert line.enter(20, "b").tokens == 20


def test_a_prompt_of_any_length_is_taken_when_nobody_waits() -> None:
    line = Line(100, Pace(Clock()))
    assert line.enter(5000, "a").tokens == 5000
