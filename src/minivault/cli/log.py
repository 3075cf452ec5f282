"""``minivault log``: the last calls on the record, read from the vault itself, so that no server need run.

Parses and prints; how records are kept and found is the vault's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import console, line, note, one_line, write_json

if TYPE_CHECKING:
    from minivault.vault.reader import Call, Reader

EXAMPLES = """\
Examples:

  minivault log                   the last ten calls, the newest at the end
  minivault log -n 100 --json     for programs: one JSON object a line
  minivault log --follow          go on, and show each call as it ends

The same is in logs/log.jsonl and in the SQL view interactions of vault.db.
"""

POLL_SECONDS = 0.25
PAGE = 1000


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
    json: options.Json = False,
) -> None:
    from minivault.vault.cipher import VaultKey
    from minivault.vault.reader import Reader

    settings = options.settings(data_dir=data_dir)
    reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
    show = _show_json if json else lambda call: _show(call, full)
    try:
        # More than are shown, so that following can tell what has ended before from what ends from now on.
        calls = last_calls(reader, max(number, PAGE) if follow else number)
        if not calls and number and not follow:
            note(f"Nothing is on record in {settings.data_dir} yet.")
        for call in calls[len(calls) - min(number, len(calls)) :]:
            show(call)
        if follow:
            for call in calls_from_now_on(reader, calls, lambda: time.sleep(POLL_SECONDS)):
                show(call)
    finally:
        reader.close()


def last_calls(reader: Reader, number: int) -> list[Call]:
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


def calls_from_now_on(reader: Reader, known: list[Call], wait: Callable[[], None]) -> Iterator[Call]:
    """Calls in the order in which they end, after those known to have ended; for ever."""
    last = max((call.outcome_index for call in known if call.outcome_index is not None), default=-1)
    while True:
        for call in reader.finished_after(last):
            last = call.outcome_index if call.outcome_index is not None else last
            yield call
        wait()


def _show_json(call: Call) -> None:
    write_json(call.as_dict())


def _show(call: Call, full: bool) -> None:
    head = [call.timestamp[:19] + "Z", call.model, call.source, call.mode, call.finish_reason or "running"]
    head.append(f"{call.prompt_tokens}+{call.completion_tokens or 0} tokens")
    if call.duration_ns is not None:
        head.append(f"{call.duration_ns / 1e9:.2f} s")
    head.append(f"record {call.index if call.outcome_index is None else call.outcome_index}")
    console().print(one_line("  ".join(head), 1000), style="bold")
    for mark, text in ((">", call.prompt), ("<", call.response)):
        if text is None:
            line(f"{mark} (not kept)")
        else:
            line(f"{mark} {text if full else one_line(text, 200)}")
    line()
