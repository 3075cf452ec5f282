"""``minivault models add-remote``: a model that other servers run. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivault.cli import options
from minivault.cli.console import line, note, program
from minivault.cli.files import prepare_data_dir

EXAMPLES = """\
Examples:

  minivault models add-remote llama --url http://127.0.0.1:8080/v1
  minivault models add-remote q --url http://gpu/v1 --upstream-model qwen3
  minivault models add-remote big --url http://a/v1 --url http://b/v1

Nothing is asked of the servers now. `models rm` takes it away again.
"""


def register(app: typer.Typer) -> None:
    app.command("add-remote", epilog=EXAMPLES)(add_remote)


def add_remote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")],
    url: Annotated[
        list[str],
        typer.Option("--url", metavar="URL", help="A server, up to /v1; may be given again for more servers."),
    ],
    upstream_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the servers call it. (default: NAME)", show_default=False)
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="The variable that has the servers' API key when the server starts."),
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The file that has it, instead.")] = None,
    max_in_flight: Annotated[int, typer.Option(help="Requests that one server gets at once; more wait here.")] = 32,
    connect_timeout: Annotated[float, typer.Option(help="Seconds to reach a server.")] = 5.0,
    first_token_timeout: Annotated[float, typer.Option(help="Seconds to its first token.")] = 300.0,
    token_timeout: Annotated[float, typer.Option(help="Seconds between two tokens.")] = 60.0,
    health_interval: Annotated[float, typer.Option(help="Seconds between two looks at each server's health.")] = 10.0,
    context_length: Annotated[
        int, typer.Option(help="Its context in tokens, if you know it; 0: the servers decide.")
    ] = 0,
    data_dir: options.DataDir = None,
) -> None:
    """Add a model that one or many OpenAI-compatible servers run."""
    from minivault.models.catalog import Catalog
    from minivault.models.remote_config import RemoteConfig, address_of, is_up_to_v1
    from minivault.models.remote_entry import add_remote as add

    config = RemoteConfig(
        urls=tuple(url),
        upstream_model=upstream_model or name,
        api_key_env=api_key_env,
        api_key_file=None if api_key_file is None else str(api_key_file.expanduser().resolve()),
        max_in_flight=max_in_flight,
        connect_timeout=connect_timeout,
        first_token_timeout=first_token_timeout,
        token_timeout=token_timeout,
        health_interval=health_interval,
        context_length=context_length,
    )
    settings = options.settings(data_dir=data_dir)
    prepare_data_dir(settings.data_dir)
    entry = add(Catalog(settings.models_dir), name, config)
    line(f"{entry.name}: {config.upstream_model} on {', '.join(address_of(one) for one in config.urls)}")
    for one in config.urls:
        if not is_up_to_v1(one):
            asked = one.rstrip("/")
            note(f"{asked} has no /v1: {asked}/chat/completions will be asked. If that is not what you mean: "
                 f"{program()} models rm {entry.name}, and add it again with {asked}/v1")  # fmt: skip
    note(f'Ask it with: {program()} generate "..." --model {entry.name}, or serve it with: --model {entry.name}')
