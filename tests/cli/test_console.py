"""What reaches a terminal is harmless, and what is piped is plain."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.progress import Task, TaskID
from rich.text import Text

from minivault.cli.console import (
    escape,
    fitted,
    note,
    one_line,
    pairs,
    program,
    speed,
    table,
    taught,
    whole_columns,
    write_json,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb", "a\\rb"),
        ("bell\x07", "bell\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_drives_a_terminal_is_made_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize("text", ["line\nline\ttab", "grüße, 世界", "👩‍💻", "back\\slash"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert escape(text) == text


def test_json_is_exact_and_still_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"response": "\x1b\u202e ü"})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
    assert json.loads(printed) == {"response": "\x1b\u202e ü"}


def test_one_line_joins_and_shortens() -> None:
    assert one_line("first\nsecond  third", 14) == "first second …"


def test_a_bars_speed_is_in_the_units_of_all_sizes() -> None:
    task = Task(TaskID(0), "", 100, 0, _get_time=lambda: 0.0)
    task.finished_speed = 3 * 2**20
    assert speed().render(task) == Text("3.0 MiB/s", style="progress.data.speed")


def test_a_piped_table_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    table(["name", "size"], [["guide", "7 MiB"], ["\x1bx", "[bold]"]])
    assert capsys.readouterr().out == "name\tsize\nguide\t7 MiB\n\\x1bx\t[bold]\n"


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "by the way\n")


@pytest.mark.parametrize(
    ("widths", "room", "whole"),
    [([5, 20, 60], 80, [True, True, False]), ([20, 20, 60], 40, [False, False, False]), ([5, 6], 80, [True, True])],
)
def test_narrow_columns_stay_whole_where_the_others_can_be_read(
    widths: list[int], room: int, whole: list[bool]
) -> None:
    assert whole_columns(widths, room) == whole


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (80, {"record": 6, "model": 5, "prompt": 31, "response": 32}),
        (60, {"record": 6, "model": 5, "prompt": 21, "response": 22}),
        (30, {"record": 6, "model": 5, "prompt": 15}),
        (8, {"record": 6, "model": 1}),
    ],
)
def test_long_columns_share_the_room_and_the_last_give_way(room: int, widths: dict[str, int]) -> None:
    wanted = {"record": 6, "model": 5, "prompt": 40, "response": 90}
    assert fitted(wanted, {"model": 5, "prompt": 12, "response": 12}, room) == widths


def test_names_and_values_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    pairs([("status", "ok"), ("engine.running", "\x1b")])
    assert capsys.readouterr().out == "status          ok\nengine.running  \\x1b\n"


@pytest.mark.parametrize("found", ["this", "other", "none"])
def test_commands_are_taught_by_a_name_that_works(found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("venv", "elsewhere", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("venv", "elsewhere"):
        (tmp_path / folder / "minivault").write_text("#!/bin/sh\n")
        (tmp_path / folder / "minivault").chmod(0o755)
    own = str(tmp_path / "venv" / "minivault")
    monkeypatch.setattr(sys, "argv", [own, "serve"])
    monkeypatch.setenv("PATH", str(tmp_path / {"this": "venv", "other": "elsewhere", "none": "empty"}[found]))
    assert program() == ("minivault" if found == "this" else own)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Run minivault vault encrypt, or leave it out", "Run /v/minivault vault encrypt, or leave it out"),
        ("first: minivault models pull a, or minivault models rm a", "first: {0} models pull a, or {0} models rm a"),
        ("needs: pip install 'minivault[redis]'", "needs: /v/python -m pip install 'minivault[redis]'"),
        (
            "pip install minivault, ~/minivault data, MiniVault runs",
            "pip install minivault, ~/minivault data, MiniVault runs",
        ),
    ],
)
def test_what_the_lower_floors_teach_is_told_as_it_is_typed_here(
    message: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/v/minivault"])
    monkeypatch.setattr(sys, "executable", "/v/python")
    monkeypatch.setenv("PATH", "/nowhere")
    assert taught(message) == said.format("/v/minivault")
