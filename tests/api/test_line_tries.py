"""How often a line is tried."""

from __future__ import annotations

import pytest

from minivault.api.line_answers import Answer
from minivault.api.line_tries import LASTING, MOST_RECORDED, Tries


def refused(status: int = 503, retry_after: float = 1.0, code: str = "overloaded") -> Answer:
    return Answer(status, None, "x", retry_after, code)


def test_tries_that_left_records_are_few_and_further_and_further_apart() -> None:
    tries = Tries()
    waits = [tries.wait_after(refused(), recorded=True) for _ in range(MOST_RECORDED)]
    assert waits == [10, 60, 360, 2160, None]
    assert tries.over


def test_a_server_that_wants_longer_waits_gets_them() -> None:
    assert Tries().wait_after(refused(retry_after=3600), recorded=True) == 3600


def test_tries_that_left_nothing_go_on_each_minute() -> None:
    tries = Tries()
    waits = [tries.wait_after(refused(), recorded=False) for _ in range(1000)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (waits[-1], tries.number) == (60, 1)


def test_a_limit_knows_when_it_has_room_and_is_looked_at_each_minute() -> None:
    tries = Tries()
    assert [tries.wait_after(refused(429, wait), recorded=False) for wait in (1, 1, 3000)] == [1, 1, 60]


@pytest.mark.parametrize(("status", "code"), [*((503, code) for code in sorted(LASTING)), (500, "x"), (422, "x")])
def test_what_does_not_pass_by_itself_is_tried_once(status: int, code: str) -> None:
    answer = refused(status, code=code)
    assert Tries().wait_after(answer, recorded=False) is None


def test_a_damaged_model_and_a_vault_that_does_not_hold_do_not_pass() -> None:
    assert {"checkpoint_error", "checkpoint_corrupt", "unsupported_checkpoint", "vault_corrupt"} == LASTING
