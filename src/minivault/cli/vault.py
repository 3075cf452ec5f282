"""``minivault vault``: list, find, show and count what is on record. Opens the vault alone, with no engine.

Parses and prints; what a record is and how it is found is the vault's. Works beside a running server and without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options, vault_proofs
from minivault.cli.console import (
    CliError,
    line,
    note,
    one_line,
    pairs,
    program,
    table,
    terminal_width,
    working,
    write_json,
)
from minivault.cli.log import ALTERED, OPEN, absent, no_answer
from minivault.cli.units import counted, named, word
from minivault.cli.usage import Group
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
    from minivault.vault.reader import Call, CallDetail, CallFilter, Page

EXAMPLES = """\
Examples:

  minivault vault list --model guide -n 20        the last calls to one model

  minivault vault show 4711                       one call, by its record or its id

  minivault vault search "rate limit"             prompts and answers that hold these words

  minivault vault export --format csv -o out.csv  everything, for a spreadsheet

  minivault vault verify                          is it all there, and as it was recorded?

  minivault vault head -o kept/elsewhere.head     the signed head, to be kept elsewhere

  minivault vault verify --against kept/elsewhere.head
"""

app = typer.Typer(
    name="vault",
    cls=Group,
    help="Read and check what is on record in the data directory itself; most of it needs no server.",
    epilog=EXAMPLES,
    no_args_is_help=True,
)
vault_proofs.register(app)


Number = Annotated[int, typer.Option("--number", "-n", min=1, max=1000, help="How many calls.")]
Cursor = Annotated[str | None, typer.Option(help="Go on where a former page ended.", show_default=False)]


CUT = {"model": 8, "prompt": 14, "response": 14}
"""Columns of a list that give way to a terminal's width, and what each must keep to be worth showing."""
MOST_SHOWN = 200
"""Characters of a prompt or a response in a list."""

LIST_EXAMPLES = """\
Examples:

  minivault vault list                                      the last 20 calls

  minivault vault list --model guide --after 2026-01-31     of one model, from a day on

  minivault vault list --key alice --finish-reason failed --json

  minivault vault list --source http --min-duration-ms 5000   that took five seconds or more
"""

SEARCH_EXAMPLES = """\
Examples:

  minivault vault search "rate limit"                 calls that hold both words

  minivault vault search '"rate limit"' --key alice   the words one behind the other, in one key's calls
"""

STATS_EXAMPLES = """\
Examples:

  minivault vault stats --after 2026-01-01            in all, by day, by model and by key

  minivault vault stats --key alice --json
"""


@app.command(
    "list", help="List calls, the newest first; `record` is what the other commands take.", epilog=LIST_EXAMPLES
)
def list_calls(
    number: Number = 20,
    cursor: Cursor = None,
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
    json: options.Json = False,
) -> None:
    filters = filters_of(
        None, after, before, model, key, surface, finish_reason, source, min_duration_ms, max_duration_ms
    )
    _print_page(data_dir, filters, number, cursor, json)


@app.command(
    help="Find calls by words in prompt or answer; words in double quotes must follow each other.",
    epilog=SEARCH_EXAMPLES,
)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The words.", show_default=False)],
    number: Number = 20,
    cursor: Cursor = None,
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
    json: options.Json = False,
) -> None:
    filters = filters_of(
        query, after, before, model, key, surface, finish_reason, source, min_duration_ms, max_duration_ms
    )
    _print_page(data_dir, filters, number, cursor, json)


@app.command(
    help="Show one call in full, by its id or by the index of either of its records; exit code 1 if it was altered.",
    epilog="Example:\n\n  minivault vault show 4711",
)
def show(
    record: Annotated[str, typer.Argument(metavar="ID", help="An id or an index.", show_default=False)],
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    with open_vault(data_dir) as (reader, _):
        detail = reader.get(record)
        altered = not reader.is_sound(detail.call.index)
    if json:
        write_json({**detail.as_dict(), "altered": altered})
    else:
        _show_detail(detail)
    if altered:
        raise CliError(
            "This is not what was recorded: the record or content of this call was altered in the vault's file.\n"
            f"`{program()} vault verify` says what."
        )


@app.command(help="Calls, tokens and latency, in all and by day, model and key.", epilog=STATS_EXAMPLES)
def stats(
    after: After = None,
    before: Before = None,
    model: Model = None,
    key: Key = None,
    surface: Surface = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    filters = filters_of(None, after, before, model, key, surface, None)
    with open_vault(data_dir) as (reader, settings), working("Counting"):
        found = reader.stats(of_key(filters, reader, settings))
        if not reader.exists:
            note(nothing_yet(settings))
    if json:
        write_json(found)
        return
    groups = [("all", "", found)]
    groups += [("ended", reason, {"calls": calls}) for reason, calls in found["finish_reasons"].items()]
    groups += [("day", group["day"], group) for group in found["by_day"]]
    groups += [("model", group["model"], group) for group in found["by_model"]]
    groups += [("key", group["api_key_id"] or "(none)", group) for group in found["by_key"]]
    headings = ["by", "of", "calls", "prompt tokens", "answer tokens", "p50 ms", "p95 ms", "p99 ms"]
    table(headings, [[by, of, *_counts(group)] for by, of, group in groups])


def _print_page(data_dir: Path | None, filters: CallFilter, number: int, cursor: str | None, json: bool) -> None:
    with open_vault(data_dir) as (reader, settings):
        page = reader.list(of_key(filters, reader, settings), limit=number, cursor=cursor)
        if not page.calls:
            empty = not reader.list(limit=1).calls
            note(nothing_yet(settings) if empty else "No call on record fits.")
    if json:
        for call in page.calls:
            write_json(call.as_dict())
    elif page.calls:
        _show_page(page)
    if altered := sum(call.altered for call in page.calls):
        note(
            f"Altered in the vault's file, and not what was recorded: {counted(altered, 'call')} of these. "
            f"`{program()} vault verify` says what."
        )
    if page.next_cursor is not None:
        note(f"More: --cursor {page.next_cursor}")


def _show_page(page: Page) -> None:
    headings = ["record", "time", "surface", "model", "finish", "tokens", "prompt", "response"]
    table(headings, [_row(call) for call in page.calls], cut=CUT)


def _row(call: Call) -> list[str]:
    return [
        str(call.record_index),
        call.timestamp[:19] + "Z" if terminal_width() is None else call.timestamp[:16].replace("T", " "),
        call.surface,
        call.model,
        (call.finish_reason or OPEN) + (f", {ALTERED}" if call.altered else ""),
        f"{call.prompt_tokens}+{call.completion_tokens or 0}",
        absent(call) if call.prompt is None else one_line(call.prompt_snippet or call.prompt, MOST_SHOWN),
        no_answer(call) if call.response is None else one_line(call.response_snippet or call.response, MOST_SHOWN),
    ]


def _show_detail(detail: CallDetail) -> None:
    fields = detail.as_dict()
    told = ("id", "timestamp", "model", "surface", "source", "api_key_id", "mode", "finish_reason", "error")
    rows = [("record", str(detail.call.record_index))]
    rows += [(name, word(name, fields[name])) for name in told if fields[name] is not None]
    rows.append(("tokens", f"{detail.call.prompt_tokens} + {detail.call.completion_tokens or 0}"))
    rows.append(("intent", f"{detail.call.index}  {detail.intent_leaf}"))
    if detail.outcome is not None:
        rows.append(("outcome", f"{detail.call.outcome_index}  {detail.outcome_leaf}"))
    gone = {f"parameters.{name}" for name in detail.withheld}
    values = named({group: fields[group] for group in ("pin", "parameters") if fields[group]})
    pairs([*rows, *((name, absent(detail.call) if name in gone else value) for name, value in values)])
    call = detail.call
    for name, text, none in (("prompt", call.prompt, absent), ("response", call.response, no_answer)):
        line(f"\n--- {name} ---")
        line(none(call) if text is None else text)


def _counts(group: Mapping[str, Any]) -> list[str]:
    times = group.get("processing_time_ms", {})
    counts = [group.get(name) for name in ("calls", "prompt_tokens", "completion_tokens")]
    return [_number(value) for value in (*counts, times.get("p50"), times.get("p95"), times.get("p99"))]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
