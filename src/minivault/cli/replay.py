"""``minivault vault replay``: is a recorded answer what the model gives again. Parses and prints the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.backend import open_backend
from minivault.cli.console import line, write_json

EXAMPLES = """\
Examples:

  minivault vault replay 4711            by the index of one of its records
  minivault vault replay 4711 --local    without a server
  minivault vault replay ID --json       by its id, for programs
"""

RecordId = Annotated[str, typer.Argument(metavar="ID", help="Id of the call, or index of either of its records.")]


def register(app: typer.Typer) -> None:
    app.command(
        "replay",
        help="Run a recorded call again and compare its tokens. Exit code 1 unless they match.",
        epilog=EXAMPLES,
    )(replay)


def replay(
    id: RecordId,
    url: options.Url = None,
    local: options.Local = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    model = _recorded_model(id, data_dir) if local else None
    with open_backend(url=url, local=local, data_dir=data_dir, model=model) as backend:
        result = backend.replay(id)
    if json:
        write_json(result)
    else:
        line(sentence(result))
    if result["verdict"] != "MATCH":
        raise typer.Exit(1)


def _recorded_model(id: str, data_dir: Path | None) -> str:
    from minivault.vault.reader import Reader

    reader = Reader.open(options.settings(data_dir=data_dir).vault_path)
    try:
        return reader.get(id).call.model
    finally:
        reader.close()


def sentence(result: Mapping[str, Any]) -> str:
    """The verdict, and what it rests on."""
    verdict, tokens = result["verdict"], result["compared_tokens"]
    if verdict == "MATCH":
        return f"MATCH: all {tokens} recorded tokens came again"
    if verdict == "NOT COMPARABLE":
        return f"NOT COMPARABLE: {result['reason']}"
    recorded, now = (_token(result[name]) for name in ("expected_token_id", "actual_token_id"))
    return f"MISMATCH at token {result['position']}: {recorded} is on record, and {now} came"


def _token(token_id: int | None) -> str:
    return "the end" if token_id is None else f"token id {token_id}"
