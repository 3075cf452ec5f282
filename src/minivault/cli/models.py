"""``minivault models``: what can be served, what is known of it, adding to it, checking it and taking it away.

Parses and prints; which files are taken and what is refused is decided in ``minivault.models``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from minivault.cli import models_adapter, models_memory, models_pull, models_remote, options
from minivault.cli.address import names_server
from minivault.cli.console import CliError, line, note, pairs, progress, table, taught, write_json
from minivault.cli.files import prepare_data_dir
from minivault.cli.units import count, counted, moment, size
from minivault.cli.usage import Group

if TYPE_CHECKING:
    from minivault.cli.client import Client
    from minivault.models.catalog import Catalog
    from minivault.settings import Settings

LIST_EXAMPLES = """\
Examples:

  minivault models list
  minivault models list --json
  minivault models list --url http://vault.example.org:8000
"""

SHOW_EXAMPLES = """\
Examples:

  minivault models show tinyllama
  minivault models show tinyllama --json
"""

IMPORT_EXAMPLES = """\
Examples:

  minivault models import ~/Downloads/TinyLlama-1.1B-Chat-v1.0
  minivault models import ./my-llama --name my-llama
  minivault models import ./qwen2.5-0.5b-instruct-q4_k_m.gguf --name qwen
  minivault serve --model my-llama
"""

RM_EXAMPLES = """\
Examples:

  minivault models rm my-llama
  minivault models rm my-llama --yes

It also forgets a download of this name that was interrupted.
"""

VERIFY_EXAMPLES = """\
Examples:

  minivault models verify              all of them
  minivault models verify tinyllama --json
"""

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="NAME", help="As minivault models list shows it.")]

app = typer.Typer(cls=Group, help="The models on this machine: get them, look at them, check them, remove them.")
models_pull.register(app)
models_remote.register(app)
models_adapter.register(app)
models_memory.register(app)


@app.command("list", epilog=LIST_EXAMPLES)
def list_models(
    data_dir: options.DataDir = None,
    url: options.ReadUrl = None,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    """List the models of the data directory, or of a server that is named; and what is wrong with damaged ones."""
    from minivault.models.details import facts

    settings = options.settings(data_dir=data_dir, url=url, api_key=api_key)
    catalog = None
    if names_server(settings, url, data_dir):
        found, damaged = _asked(settings, lambda client: client.models_and_damaged())
    else:
        catalog = _catalog(data_dir)
        entries, damaged = catalog.survey()
        found = [facts(entry) for entry in entries]
    if json:
        for model in found:
            write_json(model)
    else:
        table(["name", "family", "parameters", "size", "engine", ""], [_row(model) for model in found])
    shown = {model["name"] for model in found}
    for name, error in damaged.items():
        what = "is in memory, and cannot be loaded again" if name in shown else "cannot be served"
        note(f"{name} {what}: {taught(error)}")
    for name, held in [] if catalog is None or json else _unfinished(catalog):
        note(f"{name}: a download was interrupted at {size(held)}. The same pull goes on; models rm {name} forgets it")


@app.command("show", epilog=SHOW_EXAMPLES)
def show_model(
    name: Name,
    data_dir: options.DataDir = None,
    url: options.ReadUrl = None,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    """Show what is known of one model: sizes, digests, where it came from, its licence and template."""
    from minivault.models.details import details

    settings = options.settings(data_dir=data_dir, url=url, api_key=api_key)
    if names_server(settings, url, data_dir):
        found = _asked(settings, lambda client: client.model(name))
    else:
        found = details(_catalog(data_dir), name)
    if json:
        write_json(found)
        return
    pairs(_described(found))
    if found["template"] is not None:
        line("\nchat template:\n")
        line(found["template"])


@app.command("import", epilog=IMPORT_EXAMPLES)
def import_model(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder with config.json and *.safetensors, or a GGUF file.")
    ],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here. (default: after the path)")] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Take a Hugging Face folder or a GGUF file of this machine into the data directory, checked."""
    from minivault.models.importing import import_path

    if not path.expanduser().exists():
        raise CliError(f"There is no folder or file {path}.", exit_code=2)
    catalog = _catalog(data_dir)
    prepare_data_dir(catalog.models_dir.parent)
    with progress(f"Importing {path.name}") as report:
        entry = import_path(catalog, path.expanduser(), name, report)
    models_pull.announce(entry, json)


@app.command("rm", epilog=RM_EXAMPLES)
def remove_model(
    name: Name,
    data_dir: options.DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model's files. What was recorded of its calls stays in the vault."""
    from minivault.models.pulling import forget_unfinished

    catalog = _catalog(data_dir)
    if name in {found for found, _ in _unfinished(catalog)} and forget_unfinished(catalog.models_dir, name):
        line(f"{name}: the interrupted download is forgotten")
        if name not in catalog.names():
            return
    catalog.check_removable(name)
    if not yes:
        if not sys.stdin.isatty():
            raise CliError("A model that is removed has to be got again: say --yes.", exit_code=2)
        typer.confirm(f"Remove the model {name}?", abort=True, err=True)
    catalog.remove(name)
    line(f"{name}: removed")


@app.command("verify", epilog=VERIFY_EXAMPLES)
def verify_models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One model. (default: all)")] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Read every file again and compare it with what it was when the model was imported."""
    catalog = _catalog(data_dir)
    sound = [_verify(catalog, one, json) for one in ([name] if name is not None else catalog.names())]
    if not all(sound):
        raise CliError("Files of a model are not what they were. Remove it with models rm, and get it again.")


def _verify(catalog: Catalog, name: str, json: bool) -> bool:
    from minivault.errors import CheckpointCorrupt

    try:
        with progress(f"Reading {name}") as report:
            checks = catalog.verify(name, report)
    except CheckpointCorrupt as error:  # the others are still to be read
        if json:
            write_json({"name": name, "sound": False, "files": [], "error": error.message})
        else:
            line(f"{name}: {taught(error.message)}")
        return False
    faults = {check.name: check.fault for check in checks if check.fault}
    if json:
        files = [{"name": c.name, "size": c.size, "sha256": c.sha256, "fault": c.fault} for c in checks]
        write_json({"name": name, "sound": not faults, "files": files})
    else:
        for file, fault in faults.items():
            line(f"{name}: {file}: {fault}")
        if not faults:
            line(f"{name}: {counted(len(checks), 'file')}, all as they were")
    return not faults


def _unfinished(catalog: Catalog) -> list[tuple[str, int]]:
    from minivault.models.pulling import unfinished

    return unfinished(catalog.models_dir)


def _catalog(data_dir: Path | None) -> Catalog:
    from minivault.models.catalog import Catalog

    return Catalog(options.settings(data_dir=data_dir).models_dir)


def _asked(settings: Settings, question: Callable[[Client], T]) -> T:
    from minivault.cli.client import Client

    with Client.of(settings) as client:
        return question(client)


def _row(model: Mapping[str, Any]) -> list[str]:
    kind = "" if model["kind"] == "generation" else model["kind"]
    marks = ["embedded" if model["embedded"] else kind, "loaded" if model.get("state") == "loaded" else ""]
    sizes = [count(model["parameters"]), size(model["size_bytes"])]
    return [model["name"], model["family"], *sizes, model["engine"], ", ".join(filter(None, marks))]


def _described(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    source: Mapping[str, Any] = found["source"] or {}
    told = [
        ("name", found["name"]),
        ("family", found["family"]),
        ("engine", found["engine"]),
        ("asked for", found["kind"]),
        ("parameters", count(found["parameters"])),
        ("size", size(found["size_bytes"])),
        ("context", None if found["context_length"] is None else counted(found["context_length"], "token")),
        ("layers", found["layers"]),
        ("digest", found["digest"]),
        ("source", _source(source) or ("embedded" if found["embedded"] else None)),
        ("commit", source.get("commit")),
        ("licence", ", ".join(filter(None, [source.get("licence"), *found["licence_files"]])) or None),
        ("imported", found["imported_at"] and moment(found["imported_at"])),
        ("path", found.get("path")),
    ]
    return [(heading, str(value)) for heading, value in told if value is not None]


def _source(source: Mapping[str, Any]) -> str | None:
    if source.get("kind") == "hub":
        return f"{source.get('repository')} at {source.get('revision')}"
    if source.get("kind") == "adapter":
        return f"adapter of {source.get('base')}"
    if source.get("kind") == "gguf":
        return f"{source.get('file')} ({source.get('quantisation')})"
    return source.get("kind")
