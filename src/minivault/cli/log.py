"""``minivault log``: the last calls on the record, read from the vault itself, or asked of a server that is named.

Parses and prints; how records are kept and found is the vault's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from minivault.cli import options
from minivault.cli.address import names_server
from minivault.cli.console import console, line, note, one_line, write_json
from minivault.cli.units import counted
from minivault.cli.vault_reader import reading

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.reader import Call, Page


class Records(Protocol):
    """Calls that are on record: those of a vault, or of a server."""

    def list(self, *, cursor: str | None, limit: int) -> Page:
        """The newest first."""

    def finished_after(self, outcome_index: int) -> tuple[Call, ...]:
        """In the order in which they ended."""


EXAMPLES = """\
Examples:

  minivault log                   the last ten calls, the newest at the end
  minivault log -n 100 --json     for programs: one JSON object a line
  minivault log --follow          go on, and show each call as it ends
  minivault log --url http://vault.example.org:8000    what a server has

It reads the data directory, and needs no server, unless --url or
MINIVAULT_URL names one.

The same is in logs/log.jsonl and in the SQL view interactions of vault.db.
"""

POLL_SECONDS = 0.25
SERVER_POLL_SECONDS = 1.0
PAGE = 1000
ALTERED = "ALTERED"
"""Marks a call that is not what was recorded: it was altered in the vault's file."""
OPEN = "open"
"""How a call ended that has no outcome: it runs, or its server was killed and has not come back."""


def register(app: typer.Typer) -> None:
    app.command("log", help="Show the last calls on the record.", epilog=EXAMPLES)(log)


def log(
    number: Annotated[int, typer.Option("--number", "-n", min=0, help="How many calls.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, showing calls as they end.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Whole prompts and responses instead of their beginnings.")
    ] = False,
    data_dir: options.DataDir = None,
    url: options.ReadUrl = None,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    settings = options.settings(data_dir=data_dir, url=url, api_key=api_key)
    show = _show_json if json else lambda call: _show(call, full)
    with _records(settings, names_server(settings, url, data_dir)) as (reader, where, pause):
        # More than are shown, so that following can tell what has ended before from what ends from now on.
        calls = last_calls(reader, max(number, PAGE) if follow else number)
        if not calls and number and not follow:
            note(f"Nothing is on record {where} yet.")
        for call in calls[len(calls) - min(number, len(calls)) :]:
            show(call)
        if follow:
            for call in calls_from_now_on(reader, calls, lambda: time.sleep(pause)):
                show(call)


@contextmanager
def _records(settings: Settings, of_server: bool) -> Iterator[tuple[Records, str, float]]:
    """What to read, where that is in words, and the seconds between two looks at it."""
    if of_server:
        from minivault.cli.client import Client
        from minivault.cli.server_records import ServerRecords

        with Client.of(settings) as client:
            yield ServerRecords(client), f"at {settings.url}", SERVER_POLL_SECONDS
        return
    with reading(settings) as reader:
        yield reader, f"in {settings.data_dir}", POLL_SECONDS


def last_calls(reader: Records, number: int) -> list[Call]:
    """The last ``number`` calls, oldest first."""
    calls: list[Call] = []
    cursor: str | None = None
    while number > len(calls):
        page = reader.list(cursor=cursor, limit=min(PAGE, number - len(calls)))
        calls += page.calls
        cursor = page.next_cursor
        if cursor is None:
            break
    return calls[::-1]


def calls_from_now_on(reader: Records, known: list[Call], wait: Callable[[], None]) -> Iterator[Call]:
    """Calls in the order in which they end, after those known to have ended; for ever."""
    last = max((call.outcome_index for call in known if call.outcome_index is not None), default=-1)
    while True:
        for call in reader.finished_after(last):
            last = call.outcome_index if call.outcome_index is not None else last
            yield call
        wait()


def _show_json(call: Call) -> None:
    write_json(call.as_dict())


def absent(call: Call) -> str:
    """What stands in the place of content that is not there."""
    return "(not kept)" if call.erased_index is None else f"(erased by record {call.erased_index})"


def no_answer(call: Call) -> str:
    """What stands in the place of an answer that is not there."""
    return "(not ended)" if call.outcome_index is None and call.erased_index is None else absent(call)


def _show(call: Call, full: bool) -> None:
    head = [call.timestamp[:19] + "Z", call.model, call.source, call.mode, call.finish_reason or OPEN]
    head.append(f"{call.prompt_tokens} + {counted(call.completion_tokens or 0, 'token')}")
    if call.duration_ns is not None:
        head.append(f"{call.duration_ns / 1e9:.2f} s")
    head.append(f"record {call.record_index}")
    if call.altered:
        head.append(f"{ALTERED} in the vault's file")
    console().print(one_line("  ".join(head), 1000), style="bold")
    for mark, text, none in ((">", call.prompt, absent), ("<", call.response, no_answer)):
        if text is None:
            line(f"{mark} {none(call)}")
        else:
            line(f"{mark} {text if full else one_line(text, 200)}")
    line()
