"""Writes docs/reference.md: every setting, command, route and metric, as the code has them.

python docs/reference.py            write it
python docs/reference.py --check    exit code 1 if it is not what would be written
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from prometheus_client.parser import text_string_to_metric_families

from minivault.api.app import create_app
from minivault.byte_size import written
from minivault.cli.main import app as commands
from minivault.engine.engine import EngineStats, UpstreamStats
from minivault.settings import Settings, is_bytes
from minivault.telemetry.gauges import VaultFigures
from minivault.telemetry.metrics import Metrics

TARGET = Path(__file__).with_name("reference.md")
METHODS = ("get", "post", "put", "patch", "delete")


def reference() -> str:
    """The whole page."""
    parts = ["# Reference\n\nWritten by `python docs/reference.py` from the code; not to be edited."]
    parts += ["## Settings", settings(), "## Commands", *command_sections()]
    parts += ["## Routes", routes(), "## Metrics", metrics()]
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        default = written(default) if default and is_bytes(field) else default
        shown = "" if default in (None, [], "") else f"`{json.dumps(default, default=str)}`"
        rows.append([f"`{name}`", f"`MINIVAULT_{name.upper()}`", shown, field.description or ""])
    units = "A size is a number of bytes or has a unit: `512MiB`, `8GiB`, `2G` (as `2GiB`); `8GB` is 8,000,000,000."
    return f"A flag beats a variable, a variable `config.toml`. {units}\n\n" + table(
        ["setting", "variable", "default", "what it is"], rows
    )


def command_sections() -> Iterator[str]:
    root = typer.main.get_command(commands)
    yield from _commands(root, ["minivault"])


def _commands(command: Any, path: Sequence[str]) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name in command.commands:
            yield from _commands(command.commands[name], [*path, name])
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [
        parameter for parameter in command.params if parameter.param_type_name == "option" and not parameter.hidden
    ]
    usage = " ".join([*path, *(_argument(one) for one in arguments)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = [f"### `{usage}`", text]
    if options:
        parts.append("\n".join(f"- {_names(one)}: {_cell(one.help or '')}" for one in options))
    yield "\n\n".join(part for part in parts if part)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or (parameter.name or "").upper()).strip("[]{}.")
    name = f"{name}..." if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or ''}".rstrip()


def routes() -> str:
    document = create_app(Settings(), service=None).openapi()
    rows = []
    for path, operations in sorted(document["paths"].items()):
        for method in METHODS:
            if method in operations:
                summary = operations[method].get("summary") or operations[method].get("description", "")
                answers = ", ".join(sorted(operations[method]["responses"]))
                rows.append([f"`{method.upper()} {path}`", _cell(summary), answers])
    return "`/openapi.json` has their bodies; `/docs` shows them.\n\n" + table(
        ["route", "what it does", "statuses"], rows
    )


def metrics() -> str:
    found = Metrics()
    upstream = UpstreamStats("127.0.0.1:8080", healthy=True, in_flight=0)
    found.memory_budget = 0
    found.watch_vault(lambda: VaultFigures(0, True, head_age_seconds=0))
    found.watch_models(lambda: {"guide": {"state": "loaded", "memory_bytes": 0, "in_use": 0}})
    found.watch_engine(lambda: [("guide", "native", EngineStats(0, 0, 0.0, upstreams=(upstream,)))])
    # A metric without a sample does not say its labels; its collector knows them.
    own = [one for one in vars(found).values() if hasattr(one, "_labelnames")]
    known: dict[str, Sequence[str]] = {one._name: one._labelnames for one in own}
    rows = []
    for family in text_string_to_metric_families(found.render().decode()):
        sampled = {label for sample in family.samples for label in sample.labels} - {"le"}
        labels = ", ".join(sorted(known.get(family.name, sampled)))
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append([f"`{name}`", family.type, family.documentation, labels])
    return table(["metric", "kind", "what it counts", "labels"], sorted(rows))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in cells) + " |" for cells in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def main() -> None:
    text = reference()
    if "--check" in sys.argv[1:]:
        sys.exit(int(TARGET.read_text(encoding="utf-8") != text))
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
