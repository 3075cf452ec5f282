"""``minivault health``: is the server well, and what is it doing. Parses and prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from minivault.cli import options
from minivault.cli.console import table, write_json

EXAMPLES = """\
Examples:

  minivault health
  minivault health --url http://127.0.0.1:9000 --json
"""


def register(app: typer.Typer) -> None:
    app.command("health", help="Show how the server is; exit code 1 if it is not well.", epilog=EXAMPLES)(health)


def health(
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
    json: options.Json = False,
) -> None:
    from minivault.cli.client import Client

    with Client.of(options.settings(url=url, api_key=api_key, data_dir=data_dir)) as client:
        report = client.health()
    if json:
        write_json(report)
    else:
        table(["what", "value"], list(rows(report)))
    if report.get("status") != "ok":
        raise typer.Exit(1)


def rows(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested objects as dotted names: ``engine.running``."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from rows(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "-" if value is None else str(value)
