"""``minivault models pull``: a model from the hub, with bars.

Parses and prints; what is fetched and how it is checked is decided in ``minivault.models``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import console, escape, line, note, program, speed, write_json
from minivault.cli.files import prepare_data_dir
from minivault.cli.units import count, size

if TYPE_CHECKING:
    from minivault.models.catalog import ModelEntry
    from minivault.models.pulling import PullProgress

EXAMPLES = """\
Examples:

  minivault models pull smollm2-135m-instruct
  minivault models pull HuggingFaceTB/SmolLM2-360M-Instruct --name smollm
  minivault models pull Qwen/Qwen2.5-0.5B-Instruct@main
  HF_TOKEN=hf_... minivault models pull llama-3.2-1b-instruct

What was interrupted goes on when the same command is run again.
HF_TOKEN opens gated models; HF_ENDPOINT names another hub;
HF_HUB_OFFLINE=1 or --offline downloads nothing. Short names:

"""


def register(app: typer.Typer) -> None:
    from minivault.models.short_names import SHORT_NAMES

    names = "\n".join(f"  {short:<24} {full}" for short, full in SHORT_NAMES.items())
    app.command("pull", epilog=EXAMPLES + names + "\n")(pull_model)


def pull_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ORG/NAME, ORG/NAME@REVISION, or a short name.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here. (default: the model's)")] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Download nothing.", show_default=False)] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Download a model from the Hugging Face hub: safetensors, tokenizer and configuration; never pickle."""
    from minivault.models.catalog import Catalog
    from minivault.models.hub import Hub
    from minivault.models.pulling import pull
    from minivault.models.short_names import parse_reference

    settings = options.settings(data_dir=data_dir, offline=offline)
    reference = parse_reference(model)
    hub = Hub(offline=settings.offline)
    prepare_data_dir(settings.data_dir)
    try:
        with _bars() as report:
            entry = pull(Catalog(settings.models_dir), hub, reference, name, report)
    except KeyboardInterrupt:
        note("Interrupted. Run the same command again to go on from here.")
        raise
    announce(entry, json)


def announce(entry: ModelEntry, json: bool) -> None:
    """Say what was added and how it is served."""
    if json:
        from minivault.models.details import facts

        write_json(facts(entry))
        return
    line(f"{entry.name}: {entry.family}, {count(entry.parameters)} parameters, {size(entry.size_bytes)}")
    if entry.engine == "transformers":
        note("It runs on the transformers engine, which does not promise the same bytes again (docs/engines.md).")
    note(f"Serve it with: {program()} serve --model {entry.name}")


@contextmanager
def _bars() -> Iterator[Callable[[PullProgress], None]]:
    """One bar a file and one for all, on standard error; where that is no terminal, a line for each file begun."""
    if not sys.stderr.isatty():
        yield _FileLines()
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr)) as bar:
        whole = bar.add_task("all files", total=None)
        tasks = {}

        def report(step: PullProgress) -> None:
            if step.file not in tasks:
                tasks[step.file] = bar.add_task(escape(step.file), total=step.file_total)
            bar.update(tasks[step.file], completed=step.file_done)
            bar.update(whole, completed=step.done, total=step.total)

        yield report


class _FileLines:
    def __init__(self) -> None:
        self._file = ""

    def __call__(self, step: PullProgress) -> None:
        if step.file != self._file:
            self._file = step.file
            note(f"{step.file} ({size(step.file_total)})")
