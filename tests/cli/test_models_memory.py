"""``minivault models ps | load | unload`` against a server with a script."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from minivault.cli.client import Client
from minivault.cli.console import CliError
from minivault.cli.main import app
from tests.cli.scripted import Answer, scripted

LOADED = {
    "name": "a", "state": "loaded", "memory_bytes": 46_952_960, "in_use": 2, "expires_in": 6.4, "progress": None,
    "error": None,
}  # fmt: skip
LOADING = LOADED | {
    "name": "b",
    "state": "loading",
    "expires_in": None,
    "progress": {"phase": "packing", "done_bytes": 25, "total_bytes": 100},
}
FAILED = LOADED | {"name": "c", "state": "failed", "error": "the file is cut"}
ABSENT = LOADED | {"name": "d", "state": "unloaded"}


def run(*words: str, **answers: Answer) -> tuple[int, str, list[Any]]:
    with scripted(**answers) as server:
        result = CliRunner().invoke(app, ["models", *words, "--url", server.url])
    return result.exit_code, result.output, server.asked


def test_ps_shows_what_is_in_memory_and_how_far_a_load_is() -> None:
    code, said, _ = run("ps", models=Answer.json({"models": [LOADED, LOADING, FAILED, ABSENT]}))
    lines = said.splitlines()
    assert code == 0
    assert "44.8 MiB" in lines[1]
    assert "after 6 s" in lines[1]
    assert "loading: packing 25 %" in lines[2]
    assert "failed: the file is cut" in lines[3]
    assert len(lines) == 4


def test_ps_gives_json_a_line() -> None:
    _, said, _ = run("ps", "--json", models=Answer.json({"models": [LOADED, ABSENT]}))
    assert [json.loads(line) for line in said.splitlines()] == [LOADED]


@pytest.mark.parametrize(("said", "seconds"), [("600", 600.0), ("10m", 600.0), ("-1", -1.0), ("0", 0.0)])
def test_load_sends_what_was_said_and_waits_for_the_answer(said: str, seconds: float) -> None:
    here = Answer.json({"models": [LOADED]})
    code, told, asked = run("load", "a", "--keep-alive", said, models=here, models_a_load=Answer.json({}))
    assert (code, told.splitlines()[-1], asked) == (0, "a is loaded", [{"keep_alive": seconds}])


@pytest.mark.parametrize(
    ("said", "told"),
    [("soon", "must be a number of seconds, or a duration such as 5m"), ("9999999h", "must be at most 1000000000 s")],
)
def test_load_refuses_a_time_that_is_none(said: str, told: str) -> None:
    with pytest.raises(CliError, match=f"^--keep-alive {told}") as caught:
        CliRunner().invoke(app, ["models", "load", "a", "--keep-alive", said], catch_exceptions=False)
    assert caught.value.exit_code == 2


def test_a_load_that_fails_says_why() -> None:
    cut = Answer.json({"error": {"message": "the file is cut"}}, 503)
    code, said, _ = run("load", "c", models=Answer.json({"models": [FAILED]}), models_c_load=cut)
    assert code == 1
    assert "is loaded" not in said


def test_a_load_whose_asking_breaks_is_not_called_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("the asking broke")

    monkeypatch.setattr(Client, "load_model", breaks)
    code, said, _ = run("load", "c", models=Answer.json({"models": [FAILED]}))
    assert code == 1
    assert "is loaded" not in said


def test_unload_says_how_it_is_then_whether_the_model_was_there_or_not() -> None:
    code, said, _ = run("unload", "a", models_a_unload=Answer.json({}))
    assert (code, said.splitlines()) == (0, ["a is not in memory; the next call loads it"])
