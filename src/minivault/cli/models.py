"""``minivault models``: what can be served, and adding to it from a local Hugging Face folder.

Parses and prints; which files are copied and what is refused is decided in ``minivault.models``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.console import line, note, progress, table, write_json

if TYPE_CHECKING:
    from minivault.models.catalog import Catalog, ModelEntry

LIST_EXAMPLES = """\
Examples:

  minivault models list
  minivault models list --json
"""

IMPORT_EXAMPLES = """\
Examples:

  minivault models import ~/Downloads/TinyLlama-1.1B-Chat-v1.0
  minivault models import ./my-llama --name my-llama
  minivault serve --model my-llama
"""

app = typer.Typer(help="List the models on this machine, and add one.", no_args_is_help=True)


@app.command("list", epilog=LIST_EXAMPLES)
def list_models(data_dir: options.DataDir = None, json: options.Json = False) -> None:
    """List the models that can be served."""
    entries = _catalog(data_dir).list()
    if json:
        for entry in entries:
            write_json(facts(entry))
        return
    rows = [
        [
            entry.name,
            entry.family,
            count(entry.parameters),
            size(entry.size_bytes),
            "embedded" if entry.embedded else "",
        ]
        for entry in entries
    ]
    table(["name", "family", "parameters", "size", ""], rows)


@app.command("import", epilog=IMPORT_EXAMPLES)
def import_model(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder with config.json and *.safetensors.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here. (default: the folder's)")] = None,
    data_dir: options.DataDir = None,
) -> None:
    """Copy a local Hugging Face folder into the data directory, checked."""
    catalog = _catalog(data_dir)
    with progress(f"Copying {path.name}") as report:
        entry = catalog.import_folder(path.expanduser(), name, report)
    line(f"{entry.name}: {entry.family}, {count(entry.parameters)} parameters, {size(entry.size_bytes)}")
    note(f"Serve it with: minivault serve --model {entry.name}")


def _catalog(data_dir: Path | None) -> Catalog:
    from minivault.models.catalog import Catalog

    return Catalog(options.settings(data_dir=data_dir).models_dir)


def facts(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "family": entry.family,
        "parameters": entry.parameters,
        "size_bytes": entry.size_bytes,
        "digest": entry.digest,
        "embedded": entry.embedded,
        "imported_at": entry.imported_at,
        "path": str(entry.path),
    }


def size(number: int) -> str:
    """Bytes for people: ``11.9 MB``."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB"))


def count(number: int) -> str:
    """A number of parameters for people: ``1.1 B``."""
    return _scaled(number, ("", "K", "M", "B", "T"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    *steps, last = units
    for unit in steps:
        if number < 999.95:
            return f"{number:.0f} {unit}".rstrip() if unit == units[0] else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} {last}"
