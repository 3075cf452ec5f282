"""Which calls the commands of ``minivault vault`` are about: the options for it, and what is made of them.

Parses; how calls are found is the vault's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli.console import CliError, program

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.reader import CallFilter, Reader

SURFACES = ("native", "openai", "responses", "anthropic", "ollama", "replay", "import")
SOURCES = ("http", "cli", "import")
FINISH_REASONS = ("stop", "length", "cancelled", "failed", "interrupted", "imported")
"""What a call may bear, as over HTTP."""


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


After = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on (UTC), 2026-01-31 or with a time.")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time (UTC).")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Answered by this model.")]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="Asked with this API key: its id or its name.")]
Surface = Annotated[str | None, typer.Option(metavar="NAME", help=f"Asked through {_listed(SURFACES)}.")]
FinishReason = Annotated[str | None, typer.Option(metavar="WORD", help=f"Ended so: {_listed(FINISH_REASONS)}.")]
Source = Annotated[str | None, typer.Option(metavar="NAME", help=f"From this source: {_listed(SOURCES)}.")]
MinDuration = Annotated[
    float | None, typer.Option(metavar="MS", min=0, max=1e9, help="That took so many milliseconds or more.")
]
MaxDuration = Annotated[
    float | None, typer.Option(metavar="MS", min=0, max=1e9, help="That took so many milliseconds or less.")
]


def filters_of(
    query: str | None,
    after: str | None,
    before: str | None,
    model: str | None,
    key: str | None,
    surface: str | None,
    finish_reason: str | None,
    source: str | None = None,
    min_duration_ms: float | None = None,
    max_duration_ms: float | None = None,
) -> CallFilter:
    """What the options say. ``key`` is still as it was given: see :func:`of_key`.

    Raises:
        CliError: one is not well-formed.
    """
    from minivault.vault.reader import CallFilter

    for option, word, words in (
        ("--surface", surface, SURFACES),
        ("--finish-reason", finish_reason, FINISH_REASONS),
        ("--source", source, SOURCES),
    ):
        if word is not None and word not in words:
            raise CliError(f"{option} must be {_listed(words)}.", exit_code=2)
    return CallFilter(
        query=query,
        after_ns=parse_time_option("--after", after),
        before_ns=parse_time_option("--before", before),
        model=model,
        api_key_id=key,
        surface=surface,
        finish_reason=finish_reason,
        source=source,
        min_duration_ns=_nanoseconds(min_duration_ms),
        max_duration_ns=_nanoseconds(max_duration_ms),
    )


def of_key(filters: CallFilter, reader: Reader, settings: Settings) -> CallFilter:
    """The same calls, their key by its id.

    Raises:
        CliError: no key of the data directory is meant, and no record names one of this id.
    """
    from minivault.access.keys import KeyStore
    from minivault.access.meant import key_id_of
    from minivault.errors import InvalidRequest
    from minivault.vault.reader import CallFilter

    if filters.api_key_id is None:
        return filters

    def on_record(key_id: str) -> bool:
        return bool(reader.list(CallFilter(api_key_id=key_id), limit=1).calls)

    try:
        meant = key_id_of(filters.api_key_id, KeyStore.in_folder(settings.data_dir).list(), on_record)
    except InvalidRequest as refused:
        said = refused.message.removeprefix("key: ")
        raise CliError(f"--key {said}. `{program()} keys list --all` shows them.", exit_code=2) from None
    return replace(filters, api_key_id=meant)


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)


def parse_time_option(option: str, text: str | None) -> int | None:
    """Nanoseconds since 1970 of an option's time, ``None`` if it was not given.

    Raises:
        CliError: it is no time.
    """
    from minivault.vault.record import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise CliError(f"{option} must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z.", exit_code=2) from None
