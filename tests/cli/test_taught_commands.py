"""Every command that the documents and the embedded model's corpus teach is one that exists, with options it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from minivault.cli.main import app

ROOT = Path(__file__).parent.parent.parent


def in_documents() -> set[str]:
    """Lines of code blocks that begin with the command, without what follows a pipe or a comment."""
    found = set()
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```\w*\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found |= {line.strip() for line in block.splitlines() if line.strip().startswith("minivault ")}
    return found


def in_corpus() -> set[str]:
    """Commands between backticks, ``%placeholders%`` and numbers called N filled in."""
    found = set()
    for source in sorted((ROOT / "training" / "guide").glob("facts_*.py")):
        text = source.read_text(encoding="utf-8").replace('\\"', '"')
        found |= set(re.findall(r"`(minivault [^`<|]+)`", text))
    return {re.sub(r"%\w+%|\bN\b", "1", command) for command in found}


def refusal(command: str) -> str | None:
    """Why the command line would not take this; ``None`` if it would, or if it only names a command. Nothing is run."""
    _, *words = shlex.split(command, comments=True)
    # What the shell does with the output is not the command's.
    words = words[: next((at for at, word in enumerate(words) if word in ("|", ">")), None)]
    parser = typer.main.get_command(app)
    name = "minivault"
    while hasattr(parser, "commands"):
        if not words or words[0] not in parser.commands:
            return None if not words or words == ["--help"] else f"there is no {name} {words[0]}"
        name, *words = words
        parser = parser.commands[name]
    if not words:
        return None
    try:
        parser.make_context(name, words)
    except typer.Exit:
        return None
    except Exception as error:
        return str(error) or type(error).__name__
    return None


@pytest.mark.parametrize("command", sorted(in_documents() | in_corpus()))
def test_a_taught_command_exists(command: str) -> None:
    assert refusal(command) is None


@pytest.mark.parametrize(
    "command", ["minivault frobnicate", "minivault serve --porrt 1", "minivault models import a b"]
)
def test_a_command_that_does_not_exist_is_seen(command: str) -> None:
    assert refusal(command) is not None
