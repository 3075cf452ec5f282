"""Stop strings and incremental text: nothing of a stop string leaks, and cuts change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.generation import TokenLogprob
from minivault.models.answer_text import AnswerText
from tests.fakes import ByteDecoder


def run(steps: Sequence[bytes], stops: Sequence[str] = (), min_tokens: int = 0) -> tuple[AnswerText, list[str]]:
    text = AnswerText(ByteDecoder(), stops, min_tokens)
    pieces = []
    for step in steps:
        pieces.append(text.push(tuple(step)).text)
        if text.stopped:
            return text, pieces
    return text, [*pieces, text.finish().text]


def test_a_character_split_over_tokens_is_held_until_it_is_whole() -> None:
    assert run([b"a\xc3", b"\xa9b"])[1] == ["a", "éb", ""]


def test_the_answer_ends_before_a_stop_string() -> None:
    text, pieces = run([b"one ", b"two END three"], ["END"])
    assert ("".join(pieces), text.stopped) == ("one two ", True)


def test_a_stop_string_split_over_steps_never_leaks() -> None:
    assert run([b"on", b"e E", b"N", b"D more"], ["END"])[1] == ["on", "e ", "", ""]


def test_the_beginning_of_a_stop_string_that_does_not_come_is_shown() -> None:
    text, pieces = run([b"EN", b"Dless? no: EN"], ["ENDING"])
    assert ("".join(pieces), text.stopped) == ("ENDless? no: EN", False)


def test_of_two_stop_strings_the_one_completed_first_counts() -> None:
    assert "".join(run([b"xab c"], ["ab c", "b"])[1]) == "xa"


def test_tokens_after_the_one_that_completed_the_stop_string_are_not_taken() -> None:
    text = AnswerText(ByteDecoder(), ["x"])
    piece = text.push(tuple(b"abxcd"))
    assert (piece.token_ids, text.count) == (tuple(b"abx"), 3)


def test_no_stop_string_counts_before_min_tokens() -> None:
    assert "".join(run([b"a.b.c.d"], ["."], min_tokens=4)[1]) == "a.b"


def test_a_stop_string_may_hold_characters_of_many_bytes() -> None:
    assert "".join(run([bytes([byte]) for byte in "grüße✓weg".encode()], ["✓"])[1]) == "grüße"


def test_a_character_that_never_becomes_whole_is_shown_at_the_end_as_a_replacement() -> None:
    assert run([b"a\xe2\x9c"])[1] == ["a", "�"]


def test_tokens_are_given_with_the_piece_that_shows_the_last_of_their_text() -> None:
    text = AnswerText(ByteDecoder(), ["END"])
    logprobs = [TokenLogprob(token, -0.1) for token in b"aE"]
    assert text.push(tuple(b"aE"), logprobs).token_ids == tuple(b"a")
    assert text.push(tuple(b"N")).token_ids == ()
    piece = text.push(tuple(b"x"))
    assert piece.token_ids == tuple(b"ENx")
    assert piece.logprobs == (logprobs[1],)


@given(
    st.text(alphabet="abcé✓", max_size=40),
    st.lists(st.text(alphabet="abcé✓", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 7), min_size=1, max_size=40),
)
def test_text_and_count_do_not_depend_on_how_tokens_were_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    data = text.encode()
    at_once, pieces = run([data], stops)
    cut_up, cut_pieces = run(_cut(data, cuts), stops)
    assert "".join(cut_pieces) == "".join(pieces)
    assert (cut_up.count, cut_up.stopped) == (at_once.count, at_once.stopped)


@given(st.text(alphabet="ab", max_size=30), st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1))
def test_no_stop_string_is_ever_in_the_answer(text: str, stops: list[str]) -> None:
    answer = "".join(run([text.encode()], stops)[1])
    assert not any(stop in answer for stop in stops)
    assert text.startswith(answer)


@pytest.mark.parametrize("stops", [[], [""], ()])
def test_empty_stop_strings_mean_none(stops: Sequence[str]) -> None:
    assert "".join(run([b"abc"], stops)[1]) == "abc"


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    steps, start, turn = [], 0, 0
    while start < len(data):
        size = cuts[turn % len(cuts)]
        steps.append(data[start : start + size])
        start, turn = start + size, turn + 1
    return steps
