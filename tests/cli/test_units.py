"""Numbers, times and other values as people read them."""

from __future__ import annotations

import pytest

from minivault.cli.units import counted, duration, moment, named, size, word


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (240_279_552, "229.1 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes_are_binary(number: int, said: str) -> None:
    assert size(number) == said


def test_one_is_not_many() -> None:
    assert [counted(number, "record") for number in (0, 1, 2000)] == ["0 records", "1 record", "2,000 records"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.378, "0.38 s"), (42.4, "42 s"), (185, "3 min 5 s"), (3600, "1 h"), (187_500, "2 d 4 h")],
)
def test_a_time_has_its_two_largest_parts(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_moment_is_told_to_the_second_and_other_text_is_left_alone() -> None:
    assert moment("2026-01-31T12:00:00.123456789Z") == "2026-01-31 12:00:00 UTC"
    assert moment("2026-01-31") == "2026-01-31"


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_nothing_is_a_dash(nothing: object) -> None:
    assert word("what", nothing) == "-"


def test_nested_values_have_dotted_names_and_their_units() -> None:
    told = dict(named({"models": {"guide": {"loaded": True, "memory_bytes": 2048}}, "uptime_seconds": 3, "list": [1]}))
    assert told == {
        "models.guide.loaded": "yes",
        "models.guide.memory": "2.0 KiB",
        "uptime": "3.00 s",
        "list": "1",
    }
