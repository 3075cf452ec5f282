"""Every command teaches by example, and every command that reads speaks JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from minivault.cli.main import app

ACTS = {
    *("minivault serve", "minivault chat", "minivault models add-remote", "minivault models load"),
    *("minivault models unload", "minivault models rm", "minivault config path", "minivault config init"),
    *("minivault vault export", "minivault vault backup", "minivault vault restore"),
    *("minivault vault encrypt", "minivault vault decrypt"),
}
"""Commands that act, or whose output is a form of its own: no JSON is asked of them."""


def commands(command: Any, path: tuple[str, ...] = ("minivault",)) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from commands(one, (*path, name))
    else:
        yield " ".join(path), command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_has_an_example_of_the_command(name: str) -> None:
    told = f"{ALL[name].help or ''}\n{ALL[name].epilog or ''}"
    assert "Example" in told
    assert name in told.partition("Example")[2]


@pytest.mark.parametrize("name", sorted(set(ALL) - ACTS))
def test_a_command_that_reads_speaks_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[name].params)


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_is_read_on_a_small_terminal(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], terminal_width=80).output
    assert "<bool>" not in shown
    usage = next(line for line in shown.splitlines() if "Usage:" in line)
    assert not set("{}") & set(usage)
    assert "[[" not in usage
    assert [line for line in (ALL[name].epilog or "").splitlines() if "minivault " in line and len(line) > 78] == []
