"""``minivault keys``: make, list, show, change, rotate and revoke API keys, in the data directory itself.

Parses and prints; a server that runs on that directory heeds the change with its next request. A key is printed once,
when it is made or rotated, and on standard output alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivault.access.ending import NEVER
from minivault.cli import options
from minivault.cli.console import CliError, line, note, pairs, program, table, write_json
from minivault.cli.files import prepare_data_dir
from minivault.cli.keys_admin import anybody_administers, hint_at_administration
from minivault.cli.keys_terms import (
    Concurrent,
    Expires,
    Models,
    Requests,
    RoleName,
    Store,
    Tokens,
    given_terms,
    seconds,
)
from minivault.cli.units import word
from minivault.cli.usage import Group
from minivault.cli.vault_reader import is_missing, new_folder

if TYPE_CHECKING:
    from minivault.access.key_file import ApiKey, KeyTerms
    from minivault.access.keys import KeyStore, NewKey
    from minivault.settings import Settings

CREATE_EXAMPLES = """\
Examples:

  minivault keys create ops --role admin
  minivault keys create team --requests 60/minute --tokens 500000/day
  minivault keys create guest --model guide --expires 7d --no-store
"""

LIST_EXAMPLES = """\
Examples:

  minivault keys list
  minivault keys list --all --json
"""

SHOW_EXAMPLES = """\
Examples:

  minivault keys show team
  minivault keys show k3v9q2m8x7ab --json
"""

CHANGE_EXAMPLES = """\
Examples:

  minivault keys change team --tokens 1000000/day
  minivault keys change team --any-model --expires never --requests none
"""

ROTATE_EXAMPLES = """\
Examples:

  minivault keys rotate team
  minivault keys rotate team --grace 24h
"""

REVOKE_EXAMPLES = """\
Examples:

  minivault keys revoke guest
  minivault keys revoke guest --yes
"""

app = typer.Typer(cls=Group, help="Make, list, change, rotate and revoke API keys.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(metavar="KEY", help="Its id or its name.")]


@app.command(epilog=CREATE_EXAMPLES)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    role: RoleName = "user",
    requests: Requests = None,
    tokens: Tokens = None,
    concurrent: Concurrent = None,
    models: Models = None,
    store: Store = None,
    expires: Expires = None,
    note_: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What it is for.")] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a key, and print it. It is shown this once."""
    from minivault.access.key_file import KeyTerms

    given = given_terms(role, requests, tokens, concurrent, models, store, expires, note_)
    settings = options.settings(data_dir=data_dir)
    new = is_missing(settings)
    prepare_data_dir(settings.data_dir)
    keys = _store(data_dir)
    first = not keys.exist()
    _tell_new(keys.create(name, replace(KeyTerms(), **given)), json=json)
    _warn_of_absent(models, settings)
    if new:
        note(new_folder(settings))
    if first:
        note("From now on the server asks for a key.")
    hint_at_administration(keys, settings)


@app.command("list", epilog=LIST_EXAMPLES)
def list_keys(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Revoked and expired ones too.")] = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List the keys, without their secrets."""
    keys = _store(data_dir)
    shown = [key for key in keys.list() if everything or keys.is_active(key)]
    if json:
        for key in shown:
            write_json(_facts(keys, key))
        return
    if not shown:
        settings = options.settings(data_dir=data_dir)
        none = f"There is no folder {settings.data_dir}, and so no key." if is_missing(settings) else "There is no key."
        note(f"{none} Make one with: {program()} keys create NAME --role admin{options.same_folder(settings)}")
        return
    rows = [
        [key.id, key.name, key.terms.role.value, _state(keys, key), _expiry(key), _limits(key.terms), key.terms.note]
        for key in shown
    ]
    table(["id", "name", "role", "state", "expires", "limits", "note"], rows)


@app.command(epilog=SHOW_EXAMPLES)
def show(named: Named, data_dir: options.DataDir = None, json: options.Json = False) -> None:
    """Show what a key allows."""
    keys = _store(data_dir)
    _tell(_facts(keys, keys.get(named)), json=json)


@app.command(epilog=CHANGE_EXAMPLES)
def change(
    named: Named,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Another name.")] = None,
    role: RoleName = None,
    requests: Requests = None,
    tokens: Tokens = None,
    concurrent: Concurrent = None,
    models: Models = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="All models again.")] = False,
    store: Store = None,
    expires: Expires = None,
    note_: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What it is for.")] = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change what a key allows; what is not named stays. Takes effect with its next request."""
    if any_model and models:
        raise CliError("--model and --any-model exclude each other.", exit_code=2)
    given = given_terms(role, requests, tokens, concurrent, [] if any_model else models, store, expires, note_)
    keys, settings = _store(data_dir), options.settings(data_dir=data_dir)
    administered = anybody_administers(keys)
    _tell(_facts(keys, keys.change(named, lambda terms: replace(terms, **given), name)), json=json)
    _warn_of_absent(models, settings)
    if administered:
        hint_at_administration(keys, settings)


@app.command(epilog=ROTATE_EXAMPLES)
def rotate(
    named: Named,
    grace: Annotated[str, typer.Option(metavar="TIME", help="Take the former one for so long, such as 24h.")] = "0s",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Give a key a new secret, and print it. Its id, its records and its limits stay."""
    _tell_new(_store(data_dir).rotate(named, seconds(grace, "--grace")), json=json)


@app.command(epilog=REVOKE_EXAMPLES)
def revoke(
    named: Named,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Take a key out of use, for good; a terminal is asked first. Its records stay, and answers under way end."""
    keys = _store(data_dir)
    found = keys.get(named)
    # Where nobody can answer it goes on: revoking must not wait for anybody.
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Revoke the key {found.name} ({found.id}) for good?", abort=True, err=True)
    administered = anybody_administers(keys)
    key = keys.revoke(found.id)
    if json:
        write_json(_facts(keys, key))
    else:
        line(f"{key.id} ({key.name}) is revoked.")
    if administered:
        hint_at_administration(keys, options.settings(data_dir=data_dir))


def _store(data_dir: Path | None) -> KeyStore:
    from minivault.access.keys import KeyStore

    return KeyStore.in_folder(options.settings(data_dir=data_dir).data_dir)


def _warn_of_absent(models: list[str] | None, settings: Settings) -> None:
    """A key may be bound to a model that comes later; more often its name is misspelt."""
    from minivault.models.catalog import Catalog

    there = Catalog(settings.models_dir).names()
    for absent in [model for model in models or [] if model not in there]:
        note(f"There is no model {absent} here yet. The key is bound to it all the same.")


def _state(keys: KeyStore, key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "active" if keys.is_active(key) else "expired"


def _expiry(key: ApiKey) -> str:
    """The day, or in the last days of a key the minute."""
    ends = key.terms.expires_at
    if ends is None:
        return NEVER
    soon = ends - time.time() < 2 * 86_400
    return time.strftime("%Y-%m-%d %H:%M UTC" if soon else "%Y-%m-%d", time.gmtime(ends))


def _facts(keys: KeyStore, key: ApiKey) -> dict[str, Any]:
    return {**key.as_dict(), "state": _state(keys, key)}


def _limits(terms: KeyTerms) -> str:
    parts = [
        f"{terms.requests or 'any number of'} requests" if terms.requests is not None else "",
        f"{terms.tokens} tokens" if terms.tokens else "",
        f"{terms.concurrent} at once" if terms.concurrent else "",
        f"only {', '.join(terms.models)}" if terms.models else "",
        "" if terms.store else "content not stored",
    ]
    return "; ".join(part for part in parts if part)


def _tell(facts: Mapping[str, Any], *, json: bool) -> None:
    if json:
        write_json(facts)
    else:
        pairs((name, word(name, value)) for name, value in facts.items())


def _tell_new(made: NewKey, *, json: bool) -> None:
    if json:
        write_json({**made.key.as_dict(), "key": made.text})
        return
    line(made.text)
    note(f"This is the key {made.key.name} ({made.key.id}). It is shown this once: keep it where secrets are kept.")
