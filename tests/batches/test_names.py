"""What a line's call is called is read back, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from minivault.batches.names import call_id, line_of, result_id


@pytest.mark.parametrize("attempt", [1, 2, 31])
@pytest.mark.parametrize("ending", ["", ".1", "-0123456789abcdef", ".12-0123456789abcdef"])
def test_a_call_names_its_line(attempt: int, ending: str) -> None:
    assert line_of(call_id("batch_0a1b", 70, attempt) + ending) == ("batch_0a1b", 70)


@pytest.mark.parametrize(
    "name", ["batch_0a", "batch_0a-", "batch_0a-1-r", "batch_0a-1-0123456789abcde", "batch_0a-1 ", "batch_0A-1", "x-1"]
)
def test_another_name_is_no_lines(name: str) -> None:
    assert line_of(name) is None


def test_a_result_has_the_number_of_its_line() -> None:
    assert result_id("batch_0a1b", 7) == "batch_req_0a1b_7"
