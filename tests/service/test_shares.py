"""Shares of what all want: nobody takes it all, and no more is given than there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.service.shares import Shares


def taken(shares: Shares, holder: str, times: int = 1000) -> int:
    """So many of so many, one at a time."""
    count = 0
    while count < times and shares.fits(holder, 1):
        shares.take(holder, 1)
        count += 1
    return count


@pytest.mark.parametrize(("most", "kept"), [(320, 40), (6, 1), (3, 0), (1, 0), (7, 3)])
def test_one_alone_comes_to_all_but_what_is_kept(most: int, kept: int) -> None:
    shares = Shares(most, kept)
    assert taken(shares, "a") == shares.alone("a") == most - kept
    assert shares.has_room(kept)
    assert not shares.has_room(kept + 1)


def test_nobody_in_particular_gets_what_is_free() -> None:
    shares = Shares(320, 40)
    assert shares.alone(None) == 320
    while shares.fits(None, 1):
        shares.take(None, 1)
    assert shares.taken == 320


def test_who_has_nothing_finds_room_behind_one_who_wants_all() -> None:
    shares = Shares(320, 40)
    assert taken(shares, "a") == 280
    assert taken(shares, "b") == 35
    assert shares.fits("c", 5)
    assert not shares.fits("c", 6)


def test_two_who_want_all_come_to_nearly_half_each() -> None:
    shares = Shares(320, 40)
    held = {"a": taken(shares, "a"), "b": 0}
    while held["a"] > held["b"] or shares.fits("b", 1):  # a's end one after the other, and both want what is free
        shares.give("a", 1)
        held["a"] -= 1
        for holder in "ba":
            held[holder] += taken(shares, holder)
    assert held == {"a": 149, "b": 149}


def test_what_is_given_back_leaves_no_trace_of_its_holder() -> None:
    shares = Shares(8, 1)
    shares.take("a", 3)
    shares.give("a", 1)
    assert (shares.taken, len(shares._held)) == (2, 1)
    shares.give("a", 2)
    assert (shares.taken, len(shares._held)) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5)), max_size=60), st.integers(1, 40), st.data())
def test_never_more_than_there_is_and_to_nobody_all_but_what_is_kept(
    wanted: list[tuple[str, int]], most: int, data: st.DataObject
) -> None:
    shares = Shares(most, data.draw(st.integers(0, most - 1)))
    for holder, amount in wanted:
        if shares.fits(holder, amount) and amount <= shares.alone(holder):
            shares.take(holder, amount)
    assert shares.taken <= most
    assert all(held <= shares.alone("a") for held in shares._held.values())
