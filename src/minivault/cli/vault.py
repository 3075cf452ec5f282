"""``minivault vault``: list, show, search, export and verify what is on record. Opens the vault alone, with no engine.

Parses and prints; what a record is and how it is found is the vault's. Works beside a running server and without one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.console import CliError, line, note, one_line, table, working, write, write_json

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.reader import Call, CallDetail, CallFilter, Page, Reader
    from minivault.vault.verify import VerifyReport

EXAMPLES = """\
Examples:

  minivault vault list --model guide -n 20        the last calls to one model

  minivault vault show 4711                       one call, by the index of its record or by its id

  minivault vault search "rate limit"             prompts and answers that hold these words

  minivault vault export --format csv -o out.csv  everything, for a spreadsheet

  minivault vault verify                          is it all there, and as it was recorded?
"""

SHOWN_FINDINGS = 50

app = typer.Typer(
    name="vault",
    help="Read and check what is on record.",
    epilog=EXAMPLES,
    no_args_is_help=True,
)


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


Number = Annotated[int, typer.Option("--number", "-n", min=1, max=1000, help="How many calls.")]
Cursor = Annotated[str | None, typer.Option(help="Go on where a former page ended.", show_default=False)]
After = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on (UTC), 2026-01-31 or with a time.")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time (UTC).")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Answered by this model.")]
Key = Annotated[str | None, typer.Option(metavar="ID", help="Asked with this API key's id.")]
Surface = Annotated[str | None, typer.Option(metavar="NAME", help="Asked through this surface, such as native.")]
FinishReason = Annotated[str | None, typer.Option(metavar="WORD", help="Ended so: stop, length, cancelled, failed ...")]


@app.command("list", help="List calls, the newest first.")
def list_calls(
    number: Number = 20,
    cursor: Cursor = None,
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    surface: Surface = None,
    finish_reason: FinishReason = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    filters = _filters(None, after, before, model, key, surface, finish_reason)
    _print_page(data_dir, filters, number, cursor, json)


@app.command(help="Find calls by words in prompt or answer; words in double quotes must follow each other.")
def search(
    query: Annotated[str, typer.Argument(help="The words.", show_default=False)],
    number: Number = 20,
    cursor: Cursor = None,
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    surface: Surface = None,
    finish_reason: FinishReason = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    filters = _filters(query, after, before, model, key, surface, finish_reason)
    _print_page(data_dir, filters, number, cursor, json)


@app.command(help="Show one call in full, by its id or by the index of either of its records.")
def show(
    record: Annotated[str, typer.Argument(metavar="ID", help="An id or an index.", show_default=False)],
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    with _reader(data_dir) as (reader, _):
        detail = reader.get(record)
    if json:
        write_json(detail.as_dict())
    else:
        _show_detail(detail)


@app.command(help="Count calls and tokens, by model, by day and by how they ended.")
def stats(
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    with _reader(data_dir) as (reader, _):
        found = reader.stats(_filters(None, after, before, model, key, None, None))
    if json:
        write_json(found)
        return
    rows = [(name, value) for name, value in found.items() if not isinstance(value, dict)]
    rows += [
        (f"{name}: {part}", value)
        for name, group in found.items()
        if isinstance(group, dict)
        for part, value in group.items()
    ]
    table(["what", "value"], [[name, _number(value)] for name, value in rows])


@app.command(help="Write calls as JSON lines (with token ids and parameters) or CSV, oldest first.")
def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="How.")] = ExportFormat.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where; else to standard output.")
    ] = None,
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    surface: Surface = None,
    finish_reason: FinishReason = None,
    data_dir: options.DataDir = None,
) -> None:
    filters = _filters(None, after, before, model, key, surface, finish_reason)
    with _reader(data_dir) as (reader, _):
        pieces = reader.export(form.value, filters)
        if output is None:
            for piece in pieces:
                write(piece) if sys.stdout.isatty() else sys.stdout.write(piece)
            return
        with working(f"Writing {output}"):
            _write_file(output, pieces)
    note(f"Written: {output}")


@app.command(help="Check that all that was recorded is there, and as it was recorded. Exit code 1 if it is not.")
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Check records and tree alone, not the content.")] = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    from minivault.vault.verify import verify as verify_vault

    with _reader(data_dir) as (reader, settings):
        if not reader.exists:
            raise CliError(f"There is no vault in {settings.data_dir}: nothing to verify.")
        with working("Verifying"):
            report = verify_vault(reader, contents=not quick)
    if json:
        write_json(report.as_dict())
    else:
        _show_report(report)
    if not report.ok:
        raise typer.Exit(1)


@contextmanager
def _reader(data_dir: Path | None) -> Iterator[tuple[Reader, Settings]]:
    from minivault.vault.reader import Reader

    settings = options.settings(data_dir=data_dir)
    reader = Reader.open(settings.vault_path)
    try:
        yield reader, settings
    finally:
        reader.close()


def _filters(
    query: str | None,
    after: str | None,
    before: str | None,
    model: str | None,
    key: str | None,
    surface: str | None,
    finish_reason: str | None,
) -> CallFilter:
    from minivault.vault.reader import CallFilter

    return CallFilter(
        query=query,
        after_ns=_time("--after", after),
        before_ns=_time("--before", before),
        model=model,
        api_key_id=key,
        surface=surface,
        finish_reason=finish_reason,
    )


def _time(option: str, text: str | None) -> int | None:
    from minivault.vault.record import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise CliError(f"{option} must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z.", exit_code=2) from None


def _print_page(data_dir: Path | None, filters: CallFilter, number: int, cursor: str | None, json: bool) -> None:
    with _reader(data_dir) as (reader, settings):
        page = reader.list(filters, limit=number, cursor=cursor)
        if not page.calls:
            empty = not reader.list(limit=1).calls
            note(f"Nothing is on record in {settings.data_dir} yet." if empty else "No call on record fits.")
    if json:
        for call in page.calls:
            write_json(call.as_dict())
    elif page.calls:
        _show_page(page)
    if page.next_cursor is not None:
        note(f"More: --cursor {page.next_cursor}")


def _show_page(page: Page) -> None:
    headings = ["index", "time", "model", "finish", "tokens", "prompt", "response"]
    table(headings, [_row(call) for call in page.calls])


def _row(call: Call) -> list[str]:
    return [
        str(call.index),
        call.timestamp[:19] + "Z",
        call.model,
        call.finish_reason or "running",
        f"{call.prompt_tokens}+{call.completion_tokens or 0}",
        "(not kept)" if call.prompt is None else one_line(call.prompt, 40),
        _answer(call),
    ]


def _answer(call: Call) -> str:
    if call.snippet is not None:
        return one_line(call.snippet, 60)
    return "" if call.response is None else one_line(call.response, 60)


def _show_detail(detail: CallDetail) -> None:
    fields = detail.as_dict()
    for name in ("id", "timestamp", "model", "surface", "source", "api_key_id", "mode", "finish_reason", "error"):
        if fields[name] is not None:
            line(f"{name:<15}{fields[name]}")
    line(f"{'tokens':<15}{detail.call.prompt_tokens} + {detail.call.completion_tokens or 0}")
    line(f"{'intent':<15}{detail.call.index}  {detail.intent_leaf}")
    if detail.outcome is not None:
        line(f"{'outcome':<15}{detail.call.outcome_index}  {detail.outcome_leaf}")
    for group in ("pin", "parameters"):
        line(f"{group:<15}{', '.join(f'{name}={value}' for name, value in (fields[group] or {}).items())}")
    for name, text in (("prompt", detail.call.prompt), ("response", detail.call.response)):
        line(f"\n--- {name} ---")
        line("(not kept)" if text is None else text)


def _show_report(report: VerifyReport) -> None:
    line(f"{'records':<15}{report.records} ({report.calls} calls, {report.open_calls} of them not ended)")
    line(f"{'root':<15}{report.root}")
    line(f"{'integrity':<15}{report.integrity}" + ("" if report.contents_checked else " (content not checked)"))
    line(f"{'completeness':<15}{report.completeness}")
    for finding in report.findings[:SHOWN_FINDINGS]:
        line(f"  {finding.fault.value}: {finding.message}")
    if len(report.findings) > SHOWN_FINDINGS:
        line(f"  and {len(report.findings) - SHOWN_FINDINGS} more; --json shows them")
    if report.ok:
        note("Self-attested: measured against the vault's own head, not against a copy kept elsewhere.")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def _write_file(output: Path, pieces: Iterable[str]) -> None:
    """For the owner alone, and whole or not at all: written beside, then renamed."""
    part = output.with_name(output.name + ".part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor, not a path
            file.writelines(pieces)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CliError(f"Cannot write {output}: {error.strerror}") from error
