"""The corpus is repeatable, covers every topic, and keeps held-out questions out."""

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

REQUIRED_TOPICS = {
    "starting the server", "changing the port", "asking with curl", "streaming", "the CLI",
    "choosing and adding a model",
    "where prompts are stored", "searching the vault", "exporting the vault", "verifying the vault", "replay",
    "API keys",
    "rate limits", "the OpenAI SDK", "Ollama clients", "health and metrics", "Docker", "offline use", "GPUs",
    "stopping the server", "who the model is", "small talk", "general knowledge",
    "the network", "Anthropic clients", "the web page", "models in memory", "engines", "embeddings and batches",
    "encryption", "operation",
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
    held_out = {grammar.normal_form(item.question) for item in heldout.HELD_OUT + heldout.SINCE_0_2}
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


def test_there_are_at_least_290_held_out_questions_and_none_twice() -> None:
    forms = [grammar.normal_form(item.question) for item in heldout.HELD_OUT + heldout.SINCE_0_2]
    assert len(forms) >= 290
    assert len(forms) == len(set(forms))


def test_nothing_of_the_grammar_is_left_in_the_text(some: list[Any]) -> None:
    left = re.compile(r"%[a-z_]+%|<[a-z]|\w>")
    assert not [turn for turn in turns(some) if left.search(turn.question) or left.search(turn.answer)]


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


def test_a_guide_that_knows_the_rest_is_told_of_everything_new_and_of_nothing_held_out() -> None:
    drawn = list(islice(corpus.samples(12, share_of_fresh=1.0), 6_000))
    assert {turn.key for turn in turns(drawn)} >= {intent.key for intent in corpus.FRESH_INTENTS}
    assert not [turn for turn in turns(drawn) if corpus.is_held_out(turn.question)]


def test_a_name_that_the_answer_repeats_is_never_misspelt() -> None:
    rng = importlib.import_module("random").Random(4)
    for key in ("download_name", "choose_name", "gguf_path", "data_dir_path"):
        for _ in range(200):
            turn = corpus.intent_turn(corpus.BY_KEY[key], rng)
            name = re.search(r"(?:--model|--data-dir|pull) ([\w.~/-]+\w)", turn.answer)
            assert name
            assert name.group(1) in turn.question
