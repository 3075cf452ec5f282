"""What an API key allows, as options say it: limits, models, a role, an end.

Parses; what the terms mean is ``access``'s.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from minivault.access.ending import end_of, length_of
from minivault.cli.console import CliError, program

NONE = "none"

Requests = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Requests, such as 60/minute; none: no limit. (default: the rate_limit)"),
]
Tokens = Annotated[
    str | None, typer.Option(metavar="LIMIT", help="Tokens of prompts and answers, such as 100000/day; none: no limit.")
]
Concurrent = Annotated[int | None, typer.Option(min=0, help="Requests at one time; 0: no limit.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", "-m", metavar="NAME", help="The only model; may be given again.")
]
Store = Annotated[
    bool | None,
    typer.Option("--store/--no-store", help="Keep what is said in the vault, or only commitments of it."),
]
Expires = Annotated[
    str | None, typer.Option(metavar="WHEN", help="After 12h, 7d or 4w, or at a time such as 2027-01-31, UTC; never.")
]
RoleName = Annotated[
    str | None,
    typer.Option(
        "--role", help="user: asks, reads its own records. auditor: reads and replays all. admin: everything."
    ),
]


def given_terms(
    role: str | None,
    requests: str | None,
    tokens: str | None,
    concurrent: int | None,
    models: list[str] | None,
    store: bool | None,
    expires: str | None,
    note: str | None,
) -> dict[str, Any]:
    """The terms that were named, by the names of :class:`KeyTerms`.

    Raises:
        CliError: one is out of bounds.
    """
    terms = {
        "role": None if role is None else _role(role),
        "requests": "" if requests == NONE else requests,
        "tokens": "" if tokens == NONE else tokens,
        "concurrent": concurrent,
        "models": None if models is None else tuple(models),
        "store": store,
        "note": note,
    }
    given = {name: value for name, value in terms.items() if value is not None}
    if expires is None:
        return given
    return given | {"expires_at": _end(expires)}


def _role(name: str) -> Any:
    from minivault.access.roles import Role

    try:
        return Role(name)
    except ValueError:
        raise CliError("--role must be user, auditor or admin.", exit_code=2) from None


def _end(text: str) -> float | None:
    try:
        return end_of(text, time.time())
    except ValueError as error:
        raise CliError(f"--expires {error}. `{program()} keys revoke NAME` ends a key at once.", exit_code=2) from None


def seconds(text: str, option: str) -> float:
    """Of a length of time such as 24h.

    Raises:
        CliError: it is none; names the option.
    """
    length = length_of(text)
    if length is None:
        raise CliError(f"{option} must be like 30m, 24h or 7d.", exit_code=2)
    return length
