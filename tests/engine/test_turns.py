"""Turns at the cores: one holder at a time, in the order in which they came."""

from __future__ import annotations

import threading

import pytest

from minivault.engine.native.turns import Turns


def test_those_who_wait_follow_in_the_order_in_which_they_came() -> None:
    turns, order = Turns(), []
    threads = []
    with turns:
        for number in range(5):

            def wait(number: int = number) -> None:
                with turns:
                    order.append(number)

            thread = threading.Thread(target=wait)
            thread.start()
            while len(turns._waiting) <= number:
                pass
            threads.append(thread)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_one_who_comes_again_at_once_waits_behind_those_who_wait() -> None:
    turns, order = Turns(), []

    def other() -> None:
        with turns:
            order.append("other")

    thread = threading.Thread(target=other)
    with turns:
        thread.start()
        while not turns._waiting:
            pass
    with turns:
        order.append("again")
    thread.join()
    assert order == ["other", "again"]


def test_a_turn_ends_with_an_error_too() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="broke"), turns:
        raise ValueError("broke")
    held = False
    with turns:
        held = True
    assert held
