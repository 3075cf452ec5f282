"""Lines of a batch: read the same in any pieces, and everything wrong is named before anything runs."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.batches.reading import LineReader
from minivault.batches.values import Line

GOOD = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hé"}}


def parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode())
    except ValueError:
        raise ValueError("not JSON") from None


def read(*pieces: bytes) -> tuple[list[Line], list[tuple[str, int | None]]]:
    reader = LineReader("/v1/completions", 200, parse)
    lines = list(reader.lines(pieces))
    return lines, [(fault.code, fault.line) for fault in reader.faults]


def line(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields, ensure_ascii=False).encode() + b"\n"


@given(cuts=st.lists(st.integers(0, 250), max_size=6))
def test_lines_read_the_same_in_any_pieces(cuts: list[int]) -> None:
    data = line() + b"\n  \n" + line(custom_id="b")[:-1]
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines, faults = read(*(data[start:end] for start, end in itertools.pairwise(places)))
    assert lines == [Line(0, "a", '{"prompt": "hé"}'), Line(1, "b", '{"prompt": "hé"}')]
    assert faults == []


def test_a_mark_of_byte_order_at_the_beginning_is_no_part_of_the_first_line() -> None:
    mark = b"\xef\xbb\xbf"
    assert read(mark[:1], mark[1:] + line()) == read(line())
    assert read(line() + mark + line(custom_id="b"))[1] == [("invalid_json_line", 2)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"{nope\n", "invalid_json_line"),
        (b"[]\n", "invalid_request"),
        (line(custom_id=""), "invalid_custom_id"),
        (line(custom_id=7), "invalid_custom_id"),
        (line(method="GET"), "invalid_method"),
        (line(url="/v1/chat/completions"), "mismatched_url"),
        (line(body="x"), "invalid_request"),
        (line(body={"stream": True}), "invalid_request"),
        (line(body={"background": True}), "invalid_request"),
        (line(body={"prompt": "x" * 200}), "line_too_long"),
        (b"x" * 201, "line_too_long"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(data: bytes, code: str) -> None:
    lines, faults = read(data)
    assert lines == []
    assert faults == [(code, None if code == "empty_file" else 1)]


def test_a_second_line_of_one_name_is_named() -> None:
    assert read(line() + line())[1] == [("duplicate_custom_id", 2)]


def test_faults_end_at_a_number() -> None:
    assert len(read(b"{\n" * 1000)[1]) == 20
