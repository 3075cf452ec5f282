"""The corpus is repeatable, covers every topic, keeps held-out questions out, and names only commands that exist."""

from __future__ import annotations

import importlib
import re
from itertools import islice
from typing import Any

import pytest

# Imported by name: the folder of these modules is put on the path by conftest.
arithmetic: Any = importlib.import_module("arithmetic")
corpus: Any = importlib.import_module("corpus")
grammar: Any = importlib.import_module("grammar")
heldout: Any = importlib.import_module("heldout")

COMMANDS = {
    "serve", "generate", "stream", "chat", "health", "log", "version", "models list", "models import",
    "vault list", "vault show", "vault search", "vault export", "vault verify", "vault replay",
    "keys create",  # from version 0.2 on, and every answer that names it says so
}  # fmt: skip
REQUIRED_TOPICS = {
    "starting the server", "changing the port", "asking with curl", "streaming", "the CLI",
    "choosing and adding a model",
    "where prompts are stored", "searching the vault", "exporting the vault", "verifying the vault", "replay",
    "API keys",
    "rate limits", "the OpenAI SDK", "Ollama clients", "health and metrics", "Docker", "offline use", "GPUs",
    "stopping the server", "who the model is", "small talk", "general knowledge",
}  # fmt: skip


@pytest.fixture(scope="module")
def some() -> list[Any]:
    return list(islice(corpus.samples(11), 12_000))


def turns(some: list[Any]) -> list[Any]:
    return [turn for sample in some if isinstance(sample, corpus.Conversation) for turn in sample.turns]


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    first, again, other = (list(islice(corpus.samples(seed), 300)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_no_held_out_question_is_ever_trained_on(some: list[Any]) -> None:
    held_out = {grammar.normal_form(item.question) for item in heldout.HELD_OUT}
    trained = {grammar.normal_form(turn.question) for turn in turns(some)}
    assert not held_out & trained


def test_no_held_out_sum_is_ever_trained_on(some: list[Any]) -> None:
    sums = [re.match(r"(\d+) ([-+x]) (\d+) = ", turn.answer) for turn in turns(some) if turn.key == "arithmetic"]
    pairs = [match.groups() for match in sums if match]
    assert len(pairs) > 1000
    assert not [pair for pair in pairs if arithmetic.is_held_out(int(pair[0]), pair[1], int(pair[2]))]


def test_every_intent_and_every_required_topic_appears(some: list[Any]) -> None:
    keys = {turn.key for turn in turns(some)}
    assert keys >= set(corpus.BY_KEY)
    assert {corpus.BY_KEY[key].topic for key in keys if key in corpus.BY_KEY} >= REQUIRED_TOPICS


def test_there_are_at_least_150_held_out_questions_and_none_twice() -> None:
    forms = [grammar.normal_form(item.question) for item in heldout.HELD_OUT]
    assert len(forms) >= 150
    assert len(forms) == len(set(forms))


def test_nothing_of_the_grammar_is_left_in_the_text(some: list[Any]) -> None:
    left = re.compile(r"%[a-z_]+%|<[a-z]|\w>")
    assert not [turn for turn in turns(some) if left.search(turn.question) or left.search(turn.answer)]


def test_answers_name_only_commands_that_exist() -> None:
    answers = [answer for intent in corpus.INTENTS for answer in intent.answers]
    named = {
        " ".join(match) if match[1] else match[0]
        for answer in answers
        for match in re.findall(
            r"[`\n]minivault (models|vault|keys|[a-z]+)(?: (list|import|show|search|export|verify|replay|create))?",
            answer,
        )
    }
    assert named - {"models", "vault"} <= COMMANDS


def test_what_comes_later_is_called_later() -> None:
    later = re.compile(r"/v1|OLLAMA_HOST|keys create")
    for intent in corpus.INTENTS:
        assert all("version 0.2 on" in answer for answer in intent.answers if later.search(answer)), intent.key


@pytest.mark.parametrize(
    ("a", "sign", "b", "text"),
    [
        (47, "+", 38, "47 + 38 = 85."),
        (5, "-", 12, "5 - 12 = -7."),
        (7, "x", 8, "7 x 8 = 56."),
        (47, "x", 38, "47 x 38 = 47 x 30 + 47 x 8 = 1410 + 376 = 1786."),
    ],
)
def test_sums_are_written_out(a: int, sign: str, b: int, text: str) -> None:
    assert arithmetic.solution(a, sign, b) == text


def test_every_sum_is_right() -> None:
    for a in range(100):
        for b in range(0, 100, 7):
            for sign in "+-x":
                steps = arithmetic.solution(a, sign, b).rstrip(".").replace("x", "*").split(" = ")
                values = {eval(step) for step in steps}  # noqa: S307  (our own digits and signs)
                assert values == {arithmetic.result(a, sign, b)}
