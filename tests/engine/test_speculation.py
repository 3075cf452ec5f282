from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from minivault.engine.native.speculation import MAX_DRAFT, Drafter


def proposed(token_ids: list[int], most: int = MAX_DRAFT, **given: frozenset[int]) -> list[int]:
    """Of a drafter that has seen nothing before, and drafts whatever it can."""
    return Drafter().propose(token_ids, most, 0.0, **given)


def test_what_followed_the_last_time_is_guessed_again() -> None:
    assert proposed([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 3) == [4, 5, 6]


def test_two_tokens_suffice_where_three_are_new() -> None:
    assert proposed([1, 2, 3, 4, 8, 1, 2], 2) == [3, 4]


def test_three_tokens_count_for_more_than_a_later_two() -> None:
    assert proposed([1, 2, 3, 4, 7, 2, 3, 5, 1, 2, 3], 1) == [4]


def test_the_latest_occurrence_counts() -> None:
    assert proposed([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1) == [5]


def test_a_guess_goes_round_where_the_known_tokens_end() -> None:
    assert proposed([1, 2, 1, 2]) == [1, 2, 1, 2, 1, 2, 1]
    assert proposed([6, 6, 6]) == [6] * 7


def test_nothing_is_guessed_where_nothing_repeats_or_little_is_known() -> None:
    assert proposed([1, 2, 3, 4, 5, 6]) == []
    assert proposed([]) == proposed([1]) == proposed([1, 1]) == []


def test_an_end_of_the_sequence_is_not_guessed_nor_what_follows_it() -> None:
    assert proposed([1, 2, 3, 4, 5, 1, 2, 3], ending_ids=frozenset({5})) == [4]


def test_drafts_grow_while_guesses_come_true() -> None:
    drafter, text = Drafter(), [1, 2, 3] * 2
    lengths = []
    for _ in range(4):
        draft = drafter.propose(text, MAX_DRAFT, 0.15)
        lengths.append(len(draft))
        text += ([1, 2, 3] * 5)[len(text) % 3 :][: len(draft) + 1]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] == MAX_DRAFT


def drafted(drafter: Drafter, text: list[int], then: list[int]) -> int:
    """How many tokens are drafted while ``then`` comes, a token at a time."""
    total = 0
    for token_id in then:
        total += len(drafter.propose(text, MAX_DRAFT, 0.15))
        text.append(token_id)
    return total


def test_text_that_does_not_repeat_itself_soon_gets_next_to_no_drafts() -> None:
    draw = random.Random(5)  # noqa: S311 - a text, no secret
    drafter, text = Drafter(), [draw.randrange(20) for _ in range(500)]  # any two tokens have come before
    assert drafted(drafter, text, [draw.randrange(20) for _ in range(40)]) > 0
    assert drafted(drafter, text, [draw.randrange(20) for _ in range(400)]) < 60


def test_drafts_come_back_when_a_text_begins_to_repeat_itself() -> None:
    draw = random.Random(6)  # noqa: S311 - a text, no secret
    drafter, text = Drafter(), [draw.randrange(20) for _ in range(500)]
    drafted(drafter, text, [draw.randrange(20) for _ in range(200)])
    drafted(drafter, text, text[100:110])
    assert drafted(drafter, text, text[110:120]) > 20


@given(text=st.lists(st.integers(0, 2), max_size=40), at=st.lists(st.integers(0, 40), max_size=5))
def test_the_guess_does_not_depend_on_when_the_drafter_was_asked(text: list[int], at: list[int]) -> None:
    drafter = Drafter()
    for end in sorted(at):
        drafter.propose(text[:end], MAX_DRAFT, 0.0)
    assert drafter.propose(text, MAX_DRAFT, 0.0) == proposed(text)


@given(text=st.lists(st.integers(0, 3), max_size=40), most=st.integers(0, 9), least_odds=st.floats(0, 1))
def test_no_more_is_drafted_than_may_be(text: list[int], most: int, least_odds: float) -> None:
    assert len(Drafter().propose(text, most, least_odds)) <= min(most, MAX_DRAFT)
