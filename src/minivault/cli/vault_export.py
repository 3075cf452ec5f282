"""``minivault vault export``: what is on record as a file for other programs.

Parses and writes; the forms are the vault's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import CliError, counting, note, program, write
from minivault.cli.files import refuse_present, write_file
from minivault.cli.units import counted
from minivault.cli.vault_filters import (
    After,
    Before,
    FinishReason,
    Key,
    MaxDuration,
    MinDuration,
    Model,
    Source,
    Surface,
    filters_of,
    of_key,
)
from minivault.cli.vault_reader import nothing_yet, open_vault

if TYPE_CHECKING:
    from minivault.vault.calls import Call

MOST_NAMED = 20
"""Records in a warning; the export marks all."""
EXAMPLES = """\
Examples:

  minivault vault export -o all.jsonl                 everything, with token ids and parameters

  minivault vault export --format csv --model guide -o guide.csv

  minivault vault export --format parquet -o all.parquet    needs the extra parquet
"""


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    app.command(
        help="Write calls as JSON lines, CSV or Parquet, oldest first; exit code 1 if one of them was altered.",
        epilog=EXAMPLES,
    )(export)


def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="How.")] = ExportFormat.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where; else to standard output.")
    ] = None,
    overwrite: options.Overwrite = False,
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    surface: Surface = None,
    finish_reason: FinishReason = None,
    source: Source = None,
    min_duration_ms: MinDuration = None,
    max_duration_ms: MaxDuration = None,
    data_dir: options.DataDir = None,
) -> None:
    from minivault.vault.export import ExportForm

    filters = filters_of(
        None, after, before, model, key, surface, finish_reason, source, min_duration_ms, max_duration_ms
    )
    if form is ExportFormat.PARQUET and output is None and sys.stdout.isatty():
        raise CliError("Parquet is no text: name a file with --output.", exit_code=2)
    if output is not None:
        refuse_present(output, overwrite)
    altered: list[int] = []

    def note_altered(call: Call) -> None:
        altered.append(call.record_index)

    with open_vault(data_dir) as (reader, settings):
        filters = of_key(filters, reader, settings)
        if not reader.exists:
            note(nothing_yet(settings))
        if output is None:
            _to_stdout(reader.export(ExportForm(form.value), filters, on_altered=note_altered))
        else:
            with counting(f"Writing {output}", "calls") as progress:
                write_file(output, reader.export(ExportForm(form.value), filters, progress, note_altered))
            note(f"Written: {output}")
    if altered:
        raise CliError(_warning(altered))


def _warning(altered: list[int]) -> str:
    """What is said of an export with calls in it that were altered: how many, and the records of the first of them."""
    named = ", ".join(str(index) for index in altered[:MOST_NAMED])
    more = f" and {len(altered) - MOST_NAMED:,} more" if len(altered) > MOST_NAMED else ""
    which = f"{counted(len(altered), 'call')} in it: {'record' if len(altered) == 1 else 'records'} {named}{more}"
    return (
        f"Not all of this is what was recorded. Altered in the vault's file, and marked `altered`: {which}.\n"
        f"`{program()} vault verify` says what."
    )


def _to_stdout(pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        if sys.stdout.isatty():
            write(piece.decode("utf-8"))
        else:
            sys.stdout.buffer.write(piece)
    sys.stdout.flush()
