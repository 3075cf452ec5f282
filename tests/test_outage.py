"""An outage is told when it begins and when it is over, and not of everybody who meets it."""

from __future__ import annotations

import logging

import pytest

from minivault.outage import MAX_REASONS, QUIET_SECONDS, Outage
from tests.access.clock import Clock

LOGGER = logging.getLogger("minivault.test")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(LOGGER, "it cannot be used", "it can be used again", clock)


def test_what_always_works_is_not_told(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.works()
    assert caplog.messages == []


def test_many_failures_are_one_warning_with_the_reason(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        outage.fails("it has gone")
    assert caplog.messages == ["it cannot be used: it has gone"]
    assert caplog.records[0].levelno == logging.WARNING


def test_its_end_is_told_once(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    outage.fails("it has gone")
    clock.now += QUIET_SECONDS
    for _ in range(3):
        outage.works()
    assert caplog.messages[1:] == ["it can be used again"]


def test_what_fails_and_works_by_turns_is_one_outage(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        outage.fails("it has gone")
        clock.now += QUIET_SECONDS / 4
        outage.works()
    assert caplog.messages == ["it cannot be used: it has gone"]


def test_the_next_outage_is_told_again(outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        outage.fails("it has gone")
        clock.now += QUIET_SECONDS
        outage.works()
    assert caplog.messages == 2 * ["it cannot be used: it has gone", "it can be used again"]


def test_another_reason_is_told_and_not_without_end(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for reason in [*"ab", *"ab", *map(str, range(100))]:
        outage.fails(reason)
    assert caplog.messages[:2] == ["it cannot be used: a", "it cannot be used: b"]
    assert len(caplog.messages) == MAX_REASONS
