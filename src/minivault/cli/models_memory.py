"""``minivault models ps | load | unload``: what the running server has in memory. Parses and prints."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault import duration
from minivault.cli import options
from minivault.cli.console import CliError, line, progress, table, write_json
from minivault.cli.units import size

if TYPE_CHECKING:
    from minivault.cli.client import Client
    from minivault.settings import Settings

PS_EXAMPLES = """\
Examples:

  minivault models ps
  minivault models ps --json
"""

LOAD_EXAMPLES = """\
Examples:

  minivault models load my-llama
  minivault models load my-llama --keep-alive 10m    ten idle minutes, then it leaves
  minivault models load my-llama --keep-alive -1     it stays until its room is needed
"""

UNLOAD_EXAMPLES = """\
Examples:

  minivault models unload my-llama
"""

POLL_SECONDS = 0.3
MOST_SECONDS = 10**9

Name = Annotated[str, typer.Argument(metavar="NAME", help="As minivault models list shows it.")]


def register(app: typer.Typer) -> None:
    app.command("ps", epilog=PS_EXAMPLES)(ps)
    app.command("load", epilog=LOAD_EXAMPLES)(load)
    app.command("unload", epilog=UNLOAD_EXAMPLES)(unload)


def ps(
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
    json: options.Json = False,
) -> None:
    """Show the models that the server has in memory, or is loading, and how far it is."""
    with _client(options.settings(url=url, api_key=api_key, data_dir=data_dir)) as client:
        present = [model for model in client.models() if model["state"] != "unloaded"]
    if json:
        for model in present:
            write_json(model)
        return
    rows = [[model["name"], _state(model), size(model["memory_bytes"]), str(model["in_use"]), _leaves(model)]
            for model in present]  # fmt: skip
    table(["name", "state", "memory", "in use", "leaves"], rows)


def load(
    name: Name,
    keep_alive: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long it stays when idle: seconds, or such as 10m; -1: until its room is needed."
        ),
    ] = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
) -> None:
    """Have the server load a model, and wait for it."""
    settings = options.settings(url=url, api_key=api_key, data_dir=data_dir)
    stay = None if keep_alive is None else _stay(keep_alive)
    ended = threading.Event()
    failure: list[Exception] = []

    def ask() -> None:
        try:
            with _client(settings) as client:
                client.load_model(name, stay)
        except Exception as error:  # raised again below, in the thread that prints
            failure.append(error)
        finally:
            ended.set()

    threading.Thread(target=ask, daemon=True).start()
    with _client(settings) as client, progress(f"Loading {name}") as report:
        while not ended.wait(POLL_SECONDS):
            for model in client.models():
                if model["name"] == name and model["progress"]:
                    report(model["progress"]["done_bytes"], model["progress"]["total_bytes"])
    if failure:
        raise failure[0]
    line(f"{name} is loaded")


def unload(
    name: Name,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.ServerOf = None,
) -> None:
    """Have a model leave the server's memory once nobody uses it; the next call loads it again."""
    with _client(options.settings(url=url, api_key=api_key, data_dir=data_dir)) as client:
        client.unload_model(name)
    line(f"{name} is not in memory; the next call loads it")


def _stay(text: str) -> float:
    try:
        seconds = float(duration.keep_alive(text))
    except ValueError as error:
        raise CliError(f"--keep-alive {error}.", exit_code=2) from None
    if seconds > MOST_SECONDS:
        raise CliError(
            f"--keep-alive must be at most {MOST_SECONDS} seconds; -1: until its room is needed.", exit_code=2
        )
    return seconds


def _client(settings: Settings) -> Client:
    from minivault.cli.client import Client

    return Client.of(settings)


def _state(model: Mapping[str, Any]) -> str:
    at = model["progress"]
    if at and at["total_bytes"]:
        return f"{model['state']}: {at['phase']} {100 * at['done_bytes'] // at['total_bytes']} %"
    return f"{model['state']}: {model['error']}" if model["error"] else str(model["state"])


def _leaves(model: Mapping[str, Any]) -> str:
    if model["state"] != "loaded":
        return ""
    left = model["expires_in"]
    return "when its room is needed" if left is None else f"after {left:.0f} s"
