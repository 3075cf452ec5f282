"""Which calls the commands of ``minivault vault`` are about: the options for it, and what is made of them.

Parses; how calls are found is the vault's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli.console import CliError

if TYPE_CHECKING:
    from minivault.vault.reader import CallFilter

After = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on (UTC), 2026-01-31 or with a time.")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time (UTC).")]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="Answered by this model.")]
Key = Annotated[str | None, typer.Option(metavar="ID", help="Asked with this API key's id.")]
Surface = Annotated[str | None, typer.Option(metavar="NAME", help="Asked through this surface, such as native.")]
FinishReason = Annotated[str | None, typer.Option(metavar="WORD", help="Ended so: stop, length, cancelled, failed ...")]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="From this source, such as http or cli.")]
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
    from minivault.vault.reader import CallFilter

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
