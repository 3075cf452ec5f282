"""``minivault vault erase``: the content of calls goes for good, that of their replays and repeats with it; their
records and proofs stay.

Works on the vault itself while no server runs, and through the server (``--url``) while one does: one process writes a
vault at a time. Parses, asks and prints; what erasing means is the vault's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.cli import options
from minivault.cli.address import names_server, running_at, server_of
from minivault.cli.console import CliError, counting, line, note, working, write_json
from minivault.cli.own_ledger import own_ledger
from minivault.cli.units import counted
from minivault.cli.vault_filters import After, Before, Key, of_key, parse_time_option
from minivault.cli.vault_reader import reading

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.ledger import Ledger
    from minivault.vault.reader import CallFilter, Reader

EXAMPLES = """\
Examples:

  minivault vault erase 4711                           what this one call said

  minivault vault erase --before 2026-01-01            what all calls before this year said

  minivault vault erase --key alice --yes              what one key asked and got, without being asked back

  minivault vault erase 4711 --url http://127.0.0.1:8000    while a server runs
"""

OTHERWISE = "Erase through it with --url, such as --url http://127.0.0.1:8000, or stop it."

Erased = tuple[list[int], list[int]]
"""The calls, by the indexes of their intents, and those of them that are replays and repeats of what was asked for."""

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of calls, or indexes of their records.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask back.")]


def register(app: typer.Typer) -> None:
    app.command(
        "erase",
        help="Erase what calls said: for good. Their records and proofs stay. Exit code 1 if an id or a key has"
        " nothing to erase.",
        epilog=EXAMPLES,
    )(erase)


def erase(
    ids: Ids = None,
    key: Key = None,
    after: After = None,
    before: Before = None,
    yes: Yes = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    filtered = any(text is not None for text in (key, after, before))
    if ids and filtered:
        raise CliError(
            "Ids and filters exclude each other: name calls, or choose them with --key, --after, --before.",
            exit_code=2,
        )
    if not ids and not filtered:
        raise CliError("Name calls by their ids, or choose them with --key, --after, --before.", exit_code=2)
    settings = options.settings(data_dir=data_dir, url=url, api_key=api_key)
    filters = {name: text for name, text in (("key", key), ("after", after), ("before", before)) if text is not None}
    chosen = _filter(key, after, before)
    if _by_server(settings, url, data_dir):
        if url is None:
            note(f"Asking the server at {server_of(settings)}.")
        erased, copies = _erase_by_server(settings, ids or [], filters, yes)
    else:
        erased, copies = _erase_here(settings, ids or [], chosen, yes)
    if json:
        write_json({"erased": erased, "copies": copies})
    elif erased:
        line(f"Erased: the content of {_calls(len(erased) - len(copies), len(copies))}")
    elif ids:
        raise CliError("Nothing was erased: what was named holds no content, or none that is left.")
    elif key:
        raise CliError("Nothing was erased: no call with content fits.")
    else:
        line("Nothing to erase: no call of that time holds content.")
    if not erased and (ids or key):
        # why not by time alone: run each night, it finds nothing on most, and all is as it was to be
        raise typer.Exit(1)


def _by_server(settings: Settings, url: str | None, data_dir: Path | None) -> bool:
    """A server was named, or one runs on this vault."""
    if names_server(settings, url, data_dir):
        return True
    return "url" not in settings.model_fields_set and running_at(settings.data_dir) is not None


def _erase_by_server(settings: Settings, ids: list[str], filters: dict[str, str], yes: bool) -> Erased:
    from minivault.cli.client import Client

    what = _calls(len(ids)) if ids else "every call that fits"
    _ask_back(yes, f"{what}, and of {'their' if len(ids) > 1 else 'its'} replays and repeats")
    erased: list[int] = []
    copies: list[int] = []
    with Client.of(settings) as client, working("Erasing"):
        named = _held([client.record(record_id) for record_id in ids])  # all are there, or none is erased
        for place, index in enumerate(named):
            if index in erased:  # a replay that was named beside its call
                continue
            try:
                erased += client.erase(str(index))["erased"]
            except CliError as error:
                raise CliError(f"{error}\n{_told(erased, place, len(named))}") from None
        copies += sorted({*erased} - {*named}) if ids else []
        more = bool(filters)
        while more:
            batch = client.erase_all(**filters)
            erased += batch["erased"]
            copies += batch["copies"]
            more = batch["more"]
    return erased, copies


def _erase_here(settings: Settings, ids: list[str], chosen: CallFilter, yes: bool) -> Erased:
    with reading(settings) as reader:
        if not reader.exists:
            raise CliError(f"There is no vault in {settings.data_dir}: nothing to erase.")
        chosen = of_key(chosen, reader, settings)
        with own_ledger(settings, OTHERWISE) as ledger:
            intents = _named(reader, ids) if ids else reader.erasable(chosen, limit=sys.maxsize)
            if not intents:
                return [], []
            _ask_back(yes, _calls(len(intents), len({*reader.copies(intents)} - {*intents})))
            with counting("Erasing", "calls") as progress:
                erased = [gone for record in _erase(ledger, intents, progress) for gone in reader.erased_by(record)]
            return erased, sorted({*erased} - {*intents})


def _held(calls: list[dict[str, Any]]) -> tuple[int, ...]:
    """The intents of those that hold content, each once."""
    held = [call["index"] for call in calls if call["store"] and call["finish_reason"] and call["erased_index"] is None]
    return tuple(dict.fromkeys(held))


def _told(erased: list[int], place: int, named: int) -> str:
    if not erased:
        return "Nothing was erased."
    return (
        f"Before that, the content of {_calls(place)} was erased, and what came of it; of {named - place} it is there."
    )


def _named(reader: Reader, ids: list[str]) -> tuple[int, ...]:
    """The calls of these ids that hold content."""
    calls = [reader.get(record_id).call for record_id in ids]
    held = [call.index for call in calls if call.store and call.outcome_index is not None and call.erased_index is None]
    return tuple(dict.fromkeys(held))


def _erase(ledger: Ledger, intents: tuple[int, ...], progress: Callable[[int, int], None]) -> Iterator[int]:
    """Indexes of the erasures."""
    from minivault.errors import UnknownRecord
    from minivault.vault.book import MAX_ERASED
    from minivault.vault.record import Erasure

    for start in range(0, len(intents), MAX_ERASED):
        batch = intents[start : start + MAX_ERASED]
        with suppress(UnknownRecord):  # each of them repeated one before, and went with it
            yield ledger.append_erasure(Erasure(batch, "request", "cli")).result().index
        progress(start + len(batch), len(intents))


def _filter(key: str | None, after: str | None, before: str | None) -> CallFilter:
    from minivault.vault.reader import CallFilter

    return CallFilter(
        api_key_id=key, after_ns=parse_time_option("--after", after), before_ns=parse_time_option("--before", before)
    )


def _ask_back(yes: bool, what: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("Erasing cannot be undone: say --yes.", exit_code=2)
    typer.confirm(f"Erase the content of {what}? This cannot be undone.", abort=True, err=True)


def _calls(number: int, copies: int = 0) -> str:
    calls = counted(number, "call")
    again = f"{copies:,} {'replay or repeat' if copies == 1 else 'replays and repeats'}"
    return f"{calls} and of {again} of {'it' if number == 1 else 'them'}" if copies else calls
