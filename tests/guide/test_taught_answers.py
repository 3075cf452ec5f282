"""Each answer that the embedded model is taught names commands, options, settings, routes and files that there are."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import typer

from minivault.api.app import create_app
from minivault.cli.main import app as commands
from minivault.models.short_names import SHORT_NAMES
from minivault.settings import Settings
from tests.cli.test_taught_commands import refusal

corpus: Any = importlib.import_module("corpus")
documents: Any = importlib.import_module("documents")
grammar: Any = importlib.import_module("grammar")

ROOT = Path(__file__).resolve().parents[2]
OF_OTHER_PROGRAMS = {"--now"}
PAGES = {"/docs", "/health"}
IN_THE_CONTAINER_OR_THE_SYSTEM = {"/data", "/etc/systemd/system/", "/var/lib/minivault"}
ANSWER_FIELDS = {"finish_reason", "prompt_tokens", "completion_tokens", "total_tokens", "generated_at"}
FORMATS = {"json_object", "json_schema"}


def answers() -> list[str]:
    """Every answer once, its slots filled in, and every sentence of prose."""
    rng = Random(1)  # noqa: S311  (which slots are filled in, no secret)
    said = [grammar.expand(answer, corpus._slots(rng), rng) for intent in corpus.INTENTS for answer in intent.answers]
    return said + [sentence for paragraph in documents.PARAGRAPHS for sentence in paragraph]


def in_answers(pattern: str) -> set[Any]:
    """What the pattern's groups match, anywhere."""
    return {found for answer in answers() for found in re.findall(pattern, answer)}


def spans() -> set[str]:
    """What stands between single backticks, and the lines of code blocks."""
    found = set()
    for answer in answers():
        for block in re.findall(r"```\w*\n(.*?)```", answer, re.DOTALL):
            found |= set(block.splitlines())
        found |= set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", answer, flags=re.DOTALL)))
    return found


@cache
def parameters() -> set[str]:
    """Every option of every command."""
    found: set[str] = {"--help"}
    waiting: list[Any] = [typer.main.get_command(commands)]
    while waiting:
        command = waiting.pop()
        waiting += list(getattr(command, "commands", {}).values())
        found |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return found


@cache
def document() -> dict[str, Any]:
    return create_app(Settings(), service=None).openapi()


def fields() -> set[str]:
    schemas = document()["components"]["schemas"].values()
    return {name for schema in schemas for name in schema.get("properties", {})}


def test_every_command_line_is_one_that_the_program_takes() -> None:
    lines = {re.sub(r"\bN\b|\bID\b", "1", span) for span in spans() if "minivault " in span}
    lines = {line[line.index("minivault ") :] for line in lines if not line.startswith(("docker", "helm", "systemctl"))}
    assert len(lines) > 80
    assert {line: refusal(line) for line in lines if refusal(line)} == {}


@pytest.mark.parametrize(("key", "group"), [("cli", None), ("vault_what", "vault")])
def test_every_command_of_a_list_of_commands_exists(key: str, group: str | None) -> None:
    parser: Any = typer.main.get_command(commands)
    known = parser.commands[group].commands if group else parser.commands
    for answer in corpus.BY_KEY[key].answers:
        words = set(re.findall(r"`([a-z]+)`", answer))
        assert words
        assert words <= set(known)


def test_every_option_exists() -> None:
    assert in_answers(r"(?<![\w-])--[a-z][a-z-]*") - parameters() - OF_OTHER_PROGRAMS == set()


def test_every_variable_is_a_setting() -> None:
    named = in_answers(r"MINIVAULT_([A-Z_]+)")
    assert len(named) > 8
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_line_of_config_toml_is_a_setting() -> None:
    assert in_answers(r"`([a-z_]+) = \w+`") <= set(Settings.model_fields)


def test_every_other_name_is_a_setting_or_a_field() -> None:
    names = {span for span in spans() if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)}
    assert len(names) > 10
    parts_of_routes = {part for path in document()["paths"] for part in path.split("/")}
    assert names <= set(Settings.model_fields) | fields() | parts_of_routes | ANSWER_FIELDS | FORMATS


def test_every_route_exists() -> None:
    known = set(document()["paths"]) | PAGES
    paths = in_answers(r"(?:GET |POST |localhost:8000|127\.0\.0\.1:8000|`)(/[a-z][\w/-]*)")
    paths -= IN_THE_CONTAINER_OR_THE_SYSTEM
    assert len(paths) > 12
    assert [path for path in paths if path not in known and not any(k.startswith(path + "/") for k in known)] == []


def test_every_method_is_that_of_its_route() -> None:
    for method, path in {(m, p) for a in answers() for m, p in re.findall(r"(GET|POST) (/[a-z][\w/-]*)", a)}:
        assert path in PAGES or method.lower() in document()["paths"][path]


def test_every_file_of_the_repository_exists() -> None:
    files = in_answers(r"(?<![\w/])(?:deploy|training)/[\w./-]*\w")
    assert len(files) >= 4
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_every_file_of_the_data_directory_is_one_that_the_readme_lists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = text[text.index("## Your records") : text.index("## Settings")]
    assert {name for name in in_answers(r"~/\.minivault/([\w./]+\w)") if name not in kept} == set()


def test_every_short_name_is_one_of_the_hubs() -> None:
    named = in_answers(r"minivault models pull ([a-z][\w.-]+)") | set(corpus._SHORT_NAMES)
    assert named <= set(SHORT_NAMES)


def test_every_extra_can_be_installed() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = in_answers(r"minivault\[(\w+)\]")
    assert extras
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras)


def test_no_answer_speaks_of_a_version_that_is_past_or_to_come() -> None:
    assert in_answers(r"version (\d\.\d)|MiniVault (\d\.\d)") <= {("0.2", ""), ("", "0.2")}
    assert not [answer for answer in answers() if re.search(r"later version|from version|not yet", answer)]
