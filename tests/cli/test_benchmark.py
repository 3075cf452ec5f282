"""``minivault benchmark`` against real sockets: its figures add up, and what goes wrong is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from minivault.cli.benchmark_load import make_prompts, quantiles
from tests.cli.process import RunningServer, minivault
from tests.cli.scripted import Answer, scripted


def events(*values: object, done: bool = True) -> Answer:
    """A stream as other servers send it."""
    chunks = [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values]
    return Answer([*chunks, b"data: [DONE]\n\n"] if done else chunks)


def piece(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def test_every_answer_is_counted_and_the_plot_is_sound(server: RunningServer, tmp_path: Path) -> None:
    plot = tmp_path / "speed.svg"
    flags = ("--concurrency", "1,3", "--requests", "3", "--max-tokens", "5", "--ignore-eos", "--svg", str(plot))
    done = minivault("benchmark", "--url", server.url, *flags, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(run["concurrency"], run["requests"], run["failed"]) for run in report["runs"]] == [(1, 3, 0), (3, 3, 0)]
    assert all(run["completion_tokens"] == 15 for run in report["runs"])
    assert all(run["tokens_per_second"] == pytest.approx(15 / run["seconds"]) for run in report["runs"])
    assert report["model"] == "guide"
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")  # noqa: S314 - ours


def test_a_table_has_a_row_for_each_run(server: RunningServer) -> None:
    done = minivault("benchmark", "--url", server.url, "-c", "1,2", "--requests", "2", "-n", "2")
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == ["streams", "1", "2"]


def test_a_plot_without_a_folder_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    with scripted(v1_chat_completions=events(piece("a"))) as other:
        flags = ("--url", other.url, "--model", "any", "-c", "1", "--svg", str(tmp_path / "none" / "speed.svg"))
        done = minivault("benchmark", *flags)
    assert (done.returncode, "There is no folder" in done.stderr, other.asked) == (1, True, [])


def test_prompts_of_a_file_are_asked_in_turn(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    with scripted(v1_chat_completions=events(piece("a"), piece("b"))) as other:
        flags = ("--model", "any", "-c", "1", "--requests", "3", "--prompts", str(tmp_path / "prompts.txt"))
        done = minivault("benchmark", "--url", other.url, *flags, "--json")
    assert [body["messages"][0]["content"] for body in other.asked] == ["one", "two", "one"]
    assert "ignore_eos" not in other.asked[0]
    # Without usage, pieces are what can be counted.
    assert json.loads(done.stdout)["runs"][0]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.json({"error": {"message": "no"}}, 429), "status 429"),
        (events(piece("a"), {"error": {"message": "broken"}}, done=False), "broken off by the server"),
        (events(), "an empty answer"),
        (Answer([b"data: nonsense\n\n"]), "an event that is not JSON"),
    ],
)
def test_what_goes_wrong_is_counted_and_named(answer: Answer, reason: str) -> None:
    with scripted(v1_chat_completions=answer) as other:
        done = minivault("benchmark", "--url", other.url, "--model", "any", "-c", "2", "--requests", "2", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["runs"][0]["errors"] == {reason: 2}
    assert "Not one answer came." in done.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--concurrency", "0"), "--concurrency"),
        (("--concurrency", "1,x"), "--concurrency"),
        (("--requests", "0"), "--requests"),
        (("--duration", "-1"), "--duration"),
        (("--requests", "1", "--duration", "1"), "exclude"),
        (("--max-tokens", "0"), "--max-tokens"),
        (("--prompts", "/nowhere/at/all"), "--prompts"),
    ],
)
def test_a_bound_that_is_passed_is_named(flags: tuple[str, ...], named: str) -> None:
    done = minivault("benchmark", "--model", "any", *flags)
    assert (done.returncode, named in done.stderr) == (2, True)


def test_no_server_is_a_clear_error() -> None:
    done = minivault("benchmark", "--url", "http://127.0.0.1:9")
    assert (done.returncode, " serve" in done.stderr) == (1, True)


def test_quantiles_are_of_the_nearest_rank() -> None:
    assert quantiles([float(value) for value in range(1, 101)]) == {"mean": 50.5, "p50": 50, "p90": 90, "p99": 99}
    assert quantiles([]) == {"mean": None, "p50": None, "p90": None, "p99": None}


def test_made_prompts_follow_their_seed() -> None:
    assert make_prompts(4, 9, 1) == make_prompts(4, 9, 1) != make_prompts(4, 9, 2)
    assert {len(prompt.split()) for prompt in make_prompts(4, 9, 1)} == {9}
