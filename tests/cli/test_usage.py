"""Options and settings out of bounds are refused in words: what the value must be, and never a library's sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from minivault.bounds import in_words, span
from minivault.cli.main import app
from minivault.cli.usage import examples


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["log", "-n", "abc"], "must be an integer, at least 0"),
        (["log", "-n", "-3"], "must be an integer, at least 0"),
        (["generate", "x", "--top-p", "half"], "must be a number"),
        (["batch", "in.jsonl", "--concurrency", "5000"], "must be an integer from 1 to 1024"),
        (["vault", "export", "--format", "xls"], "is not one of 'jsonl', 'csv', 'parquet'"),
    ],
)
def test_an_option_out_of_bounds_says_what_it_must_be(words: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, words, terminal_width=200)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.replace("│", " ").split())
    assert "Input should" not in refused.output
    assert "Value error" not in refused.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["valut"], "There is: minivault vault"),
        (["vault", "lsit"], "There is: minivault vault list"),
        (["models", "ls"], "There is: minivault models list"),
        (["keys", "delete"], "There is: minivault keys revoke"),
        (["pull"], "There is: minivault models pull"),
        (["run"], "There is: minivault chat --model NAME"),
        (["help"], "There is: minivault --help"),
        (["generate", "x", "--modle", "y"], "Possible options: --model"),
    ],
)
def test_what_is_nearly_right_is_answered_by_what_there_is(words: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, words, prog_name="minivault", terminal_width=200)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.replace("│", " ").split())


@pytest.mark.parametrize("words", [["xyzzy"], ["ls"], ["vault", "run"], ["generate", "x", "--verbose"]])
def test_what_is_far_from_all_there_is_gets_no_guess(words: list[str]) -> None:
    refused = CliRunner().invoke(app, words, terminal_width=200)
    assert refused.exit_code == 2
    assert "No such" in refused.output
    assert "There is" not in refused.output
    assert "Possible options" not in refused.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["generate", "caf\udce9"], "PROMPT"),
        (["embed", "tea", "caf\udce9"], "TEXT"),
        (["vault", "search", "caf\udce9"], "QUERY"),
        (["models", "load", "caf\udce9"], "NAME"),
        (["stream", "x", "--model", "caf\udce9"], "--model"),
    ],
)
def test_a_word_that_is_not_utf_8_is_refused_by_its_name(words: list[str], named: str) -> None:
    refused = CliRunner().invoke(app, words, terminal_width=200)
    assert refused.exit_code == 2
    assert "is not UTF-8" in refused.output
    assert named in refused.output


def test_the_name_of_a_file_may_hold_any_byte(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    done = CliRunner().invoke(app, ["log", "--data-dir", str(folder)])
    assert (done.exit_code, "Nothing is on record" in done.output) == (0, True)


def test_what_an_example_does_stands_above_it_where_a_line_would_be_too_long() -> None:
    long = "Examples:\n\n  minivault a" + " " * 50 + "what it does with [these]\n  minivault b\n"
    assert examples(long) == "Examples:\n\n  # what it does with \\[these]\n  minivault a\n  minivault b\n"
    short = "Example:\n\n  minivault a    what it does\n"
    assert examples(examples(short)) == short


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({}, ""),
        ({"ge": 0, "le": 65535}, " from 0 to 65535"),
        ({"ge": 1_000_000}, ", at least 1000000"),
        ({"gt": 0, "le": 0.5}, ", above 0 and at most 0.5"),
        ({"lt": 3}, ", below 3"),
    ],
)
def test_bounds_are_said_whole(bounds: dict[str, float], said: str) -> None:
    assert span(bounds) == said


def test_a_fault_that_is_not_known_has_no_words_of_a_library() -> None:
    assert in_words({"type": "new_in_some_version", "msg": "Input should be odd"}) == "is not of the right form"
