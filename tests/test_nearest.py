"""A name is suggested only where it is really close."""

from __future__ import annotations

import time

import pytest

from minivault.nearest import distance, nearest

COMMANDS = ["serve", "generate", "stream", "chat", "health", "doctor", "log", "models", "keys", "vault", "version"]
MODELS = ["guide", "tinyllama", "qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct", "gpt2"]


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("valut", COMMANDS, ["vault"]),
        ("serv", COMMANDS, ["serve"]),
        ("helth", COMMANDS, ["health"]),
        ("help", COMMANDS, []),
        ("ls", COMMANDS, []),
        ("run", COMMANDS, []),
        ("start", COMMANDS, []),
        ("GIDE", MODELS, ["guide"]),
        ("tiny-lama", MODELS, ["tinyllama"]),
        ("qwen2.5", MODELS, ["qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct"]),
        ("gpt-4o", MODELS, []),
        ("", MODELS, []),
        ("x" * 100_000, MODELS, []),
    ],
)
def test_only_what_is_close_is_suggested(word: str, known: list[str], found: list[str]) -> None:
    assert nearest(word, known) == found


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("kitten", "sitting", 3), ("ab", "b", 1)],
)
def test_the_distance_counts_single_letters_and_swaps(one: str, other: str, steps: int) -> None:
    assert distance(one, other, 3) == distance(other, one, 3) == steps


def test_what_is_farther_than_asked_for_is_not_told() -> None:
    assert distance("kitten", "sitting", 2) is None


def test_a_long_name_beside_many_costs_next_to_nothing() -> None:
    names = ["y" * 99 + str(number) for number in range(1000)]
    began = time.process_time()
    assert nearest("x" * 100, names) == []
    assert time.process_time() - began < 2
