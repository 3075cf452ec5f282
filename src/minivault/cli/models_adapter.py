"""``minivault models add-adapter``: a LoRA adapter of a model. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivault.cli import options
from minivault.cli.console import line, note, program, progress, write_json
from minivault.cli.files import prepare_data_dir
from minivault.cli.units import counted

EXAMPLES = """\
Examples:

  minivault models add-adapter tinyllama ./lora-support --name support
  minivault generate "Hello" --model tinyllama:support
  minivault models rm tinyllama:support

PATH is a folder as PEFT saves it: adapter_config.json and adapter_model.safetensors.
"""


def register(app: typer.Typer) -> None:
    app.command("add-adapter", epilog=EXAMPLES)(add_adapter)


def add_adapter(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model that it was trained on.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder with a LoRA adapter in PEFT's form.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="It answers as BASE:NAME. (default: after the folder)")
    ] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Add a LoRA adapter to a model; requests choose it as BASE:NAME."""
    from minivault.models.adapter_entry import add_adapter as add
    from minivault.models.catalog import Catalog
    from minivault.models.details import facts

    settings = options.settings(data_dir=data_dir)
    catalog = Catalog(settings.models_dir)
    catalog.get(base)  # a base that is not there makes no folder
    prepare_data_dir(settings.data_dir)
    with progress(f"Adding {path.name}") as report:
        entry = add(catalog, base, path.expanduser(), name, report)
    if json:
        write_json(facts(entry))
        return
    line(f"{entry.name}: {counted(entry.parameters, 'parameter')} beside {base}")
    note(f'Ask it with: {program()} generate "..." --model {entry.name}')
