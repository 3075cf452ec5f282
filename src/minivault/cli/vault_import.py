"""``minivault vault import``: calls that were kept elsewhere come into the vault, marked as imported.

Parses and prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minivault.cli import options
from minivault.cli.console import CliError, line, note, working, write_json
from minivault.cli.own_ledger import own_ledger
from minivault.cli.units import counted
from minivault.cli.vault_reader import is_missing, new_folder

SHOWN_LINES = 20


def register(app: typer.Typer) -> None:
    app.command(
        "import",
        help="Bring in a log.jsonl, or a SQLite file with a table interactions. Marked as imported, not attested. "
        "Exit code 1 if nothing in it could be read.",
        epilog="Examples:\n\n  minivault vault import old/log.jsonl\n\n  minivault vault import old/calls.db --json",
    )(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, or SQLite.", show_default=False)],
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    from minivault.vault.cipher import VaultKey
    from minivault.vault.importing import import_calls
    from minivault.vault.old_calls import read_old_calls
    from minivault.vault.reader import Reader

    settings = options.settings(data_dir=data_dir)
    if not file.is_file():
        raise CliError(f"There is no file {file}.", exit_code=2)
    if file.resolve().is_relative_to(settings.data_dir.resolve()):
        # The mirror would write each imported call behind the lines that are still to be read.
        raise CliError("This file belongs to the vault itself: its calls are on record already.", exit_code=2)
    if is_missing(settings):
        note(new_folder(settings))
    reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
    try:
        with own_ledger(settings, "Stop it for the time of the import.") as ledger, working(f"Importing {file}"):
            report = import_calls(ledger, reader, read_old_calls(file))
    finally:
        reader.close()
    if json:
        lines = [{"line": found.place, "reason": found.reason} for found in report.unreadable]
        write_json({"imported": report.imported, "known": report.known, "unreadable": lines})
    else:
        known = f", {report.known} had been imported before" if report.known else ""
        line(f"Imported: {counted(report.imported, 'call')}{known}")
        for found in report.unreadable[:SHOWN_LINES]:
            note(f"line {found.place}: {found.reason}")
        if len(report.unreadable) > SHOWN_LINES:
            note(f"and {counted(len(report.unreadable) - SHOWN_LINES, 'line')} more; --json shows them")
    if report.unreadable and not report.imported + report.known:
        raise typer.Exit(1)
