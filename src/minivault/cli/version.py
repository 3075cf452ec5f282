"""``minivault version``: what exactly is running here. Parses and prints."""

from __future__ import annotations

import platform
from typing import Annotated

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
    app.callback()(_root)
    app.command("version", help="Show the versions of the package, Python and the engine.", epilog=EXAMPLES)(version)


def _print(asked: bool) -> None:
    if asked:
        line(f"minivault {__version__}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself, before those of any other."""


def version(json: options.Json = False) -> None:
    facts = {
        "minivault": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **engine(),
    }
    if json:
        write_json(facts)
        return
    for name, value in facts.items():
        line(f"{name:<12}{value}")


def engine() -> dict[str, str]:
    """What the native engine is and can do here; why not, where it was not built."""
    try:
        from minivault.engine.native.runner import ARITHMETIC, choose_kernels
    except ImportError:
        return {"engine": "not built; run make, or: pip install --no-build-isolation --no-deps -e ."}
    return {
        "engine": f"native {__version__}",
        "arithmetic": ", ".join(ARITHMETIC.values()),
        "kernels": choose_kernels("auto"),
    }
