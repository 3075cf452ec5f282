"""``minivault version``: what exactly is running here. Parses and prints."""

from __future__ import annotations

import platform

import typer

from minivault import __version__
from minivault.cli import options
from minivault.cli.console import line, write_json

EXAMPLES = """\
Examples:

  minivault version

  minivault version --json
"""


def register(app: typer.Typer) -> None:
    app.command("version", help="Show the versions of the package, Python and the engine.", epilog=EXAMPLES)(version)


def version(json: options.Json = False) -> None:
    facts = {"minivault": __version__, "python": platform.python_version(), "machine": platform.machine()} | _engine()
    if json:
        write_json(facts)
        return
    for name, value in facts.items():
        line(f"{name:<12}{', '.join(value) if isinstance(value, list) else value}")
