"""``minivault health``: is the server well, and what is it doing. Parses and prints."""

from __future__ import annotations

import typer

from minivault.cli import options
from minivault.cli.console import pairs, write_json
from minivault.cli.units import named

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
        pairs((name, value) for name, value in named(report) if value != "-")
    if report.get("status") != "ok":
        raise typer.Exit(1)
