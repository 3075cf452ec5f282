"""No body costs more than in proportion to its length, whatever stands in it."""

from __future__ import annotations

import contextlib
import time

import pytest

from minivault.api.body import MAX_DEPTH, parse_json
from minivault.api.problems import Problem

SIZE = 1 << 20
DEEP = b"[" * (MAX_DEPTH + 1)
MOST_SECONDS = 3.0
"""Of this machine's time. What is linear takes hundredths; what is quadratic, minutes."""

EVIL = {
    "escaped quotes before too many brackets": b'\\"' * (SIZE // 2) + DEEP,
    "a string of escaped quotes without an end": b'"' + b'\\"' * (SIZE // 2) + DEEP,
    "a string without an end, in an object": b'{"prompt": "' + b'\\"[' * (SIZE // 3),
    "quotes and nothing between": b'"' * (SIZE + 1) + DEEP,
    "backslashes": DEEP[1:] + b'"' + b"\\" * SIZE,
    "an odd backslash at the end": DEEP[1:] + b'"' + b"\\" * (SIZE + 1),
    "shallow brackets": b"[" + b"[]," * (SIZE // 3) + b"[]]",
    "closing brackets": DEEP + b"]" * SIZE,
    "digits": b'{"a": ' + b"7" * SIZE + b"}",
    "a long fraction": b'{"a": 0.' + b"7" * SIZE + b"}",
    "a long number with an exponent": b'{"a": ' + b"7" * SIZE + b"e-" + str(SIZE).encode() + b"}",
    "a long exponent": b'{"a": 1e' + b"7" * SIZE + b"}",
    "long whole numbers": b"[" + (b"7" * 400 + b",") * (SIZE // 401) + b"1]",
    "halves of surrogate pairs": b'["' + b"\\ud83d\\ude00" * (SIZE // 12) + b'\\ud800"]',
    "one key many times": b"{" + b'"a":1,' * (SIZE // 6) + b'"a":1}',
    "white space": b" " * SIZE,
}


@pytest.mark.parametrize("name", EVIL)
def test_a_body_of_a_mebibyte_is_read_in_linear_time(name: str) -> None:
    began = time.process_time()
    with contextlib.suppress(Problem):
        parse_json(EVIL[name])
    assert time.process_time() - began < MOST_SECONDS


@pytest.mark.parametrize(
    "raw", [DEEP, b'{"a": "\\"[", "b": ' + DEEP, b'"a\\\\"' + DEEP], ids=["bare", "after", "escaped"]
)
def test_too_deep_is_seen_behind_strings(raw: bytes) -> None:
    with pytest.raises(Problem, match="nested more than"):
        parse_json(raw)


def test_brackets_within_a_string_are_no_depth() -> None:
    assert parse_json(b'["\\"' + b"[" * 200 + b'\\\\"]') == ['"' + "[" * 200 + "\\"]
