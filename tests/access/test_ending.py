"""When a key ends is read in one way, on the command line and over HTTP."""

from __future__ import annotations

import re

import pytest

from minivault.access.ending import end_of

NOW = 1_700_000_000.0
"""2023-11-14T22:13:20Z"""


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("12h", NOW + 43_200),
        ("7d", NOW + 604_800),
        ("2027-01-31", 1_801_353_600.0),
        ("2027-01-31 12:00", 1_801_396_800.0),
        ("2027-01-31T12:00:00", 1_801_396_800.0),
        ("2027-01-31T12:00:00Z", 1_801_396_800.0),
        ("2027-01-31T12:00:00.000Z", 1_801_396_800.0),
        ("2027-01-31T13:00:00+01:00", 1_801_396_800.0),
        ("never", None),
    ],
)
def test_an_end_is_read_and_is_utc_where_it_names_no_zone(text: str, end: float | None) -> None:
    assert end_of(text, NOW) == end


@pytest.mark.parametrize("text", ["0s", "2001-01-01", "2023-11-14T22:13:20Z", "0001-01-01T00:00:00+12:00"])
def test_an_end_lies_ahead(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must lie ahead$"):
        end_of(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2001",
        "1900000000",
        "20300131",
        "2030-W05",
        "2030-1-1",
        "2030-02-30",
        "2030-01-31T25:00",
        "soon",
        "7",
        "9" * 99,
    ],
)
def test_what_is_no_end_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("must be like 12h, 7d, 4w, 2027-01-31")):
        end_of(text, NOW)
