"""``minivault keys``: made, shown once, changed and revoked in the data directory."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from minivault.access.keys import KeyStore
from minivault.cli.console import CliError
from minivault.cli.main import app
from minivault.errors import InvalidRequest, Unauthorized, UnknownKey
from tests.cli.process import MINIVAULT, minivault, on_terminal

KEY = re.compile(r"mv_[a-z0-9]{12}_[0-9a-f]{64}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def keys(folder: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(app, ["keys", *arguments, "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def made(folder: Path, *arguments: str) -> str:
    """The key that a command printed."""
    found = KEY.findall(keys(folder, *arguments).stdout)
    assert len(found) == 1
    return str(found[0])


def shown(folder: Path, name: str) -> dict[str, object]:
    facts: dict[str, object] = json.loads(keys(folder, "show", name, "--json").stdout)
    return facts


def test_a_key_is_printed_alone_on_standard_output_and_works(folder: Path) -> None:
    done = keys(folder, "create", "ops", "--role", "admin")
    assert KEY.fullmatch(done.stdout.strip())
    assert "shown this once" in done.stderr
    assert KeyStore.in_folder(folder).authenticate(done.stdout.strip()).name == "ops"


def test_all_terms_can_be_given(folder: Path) -> None:
    given = ("--requests", "5/minute", "--tokens", "100/day", "--concurrent", "3", "--model", "a", "--model", "b")
    keys(folder, "create", "team", *given, "--no-store", "--expires", "2030-01-31T00:00:00+00:00", "--note", "for Ada")
    facts = shown(folder, "team")
    assert facts["requests"] == "5/minute"
    assert facts["tokens"] == "100/day"
    assert facts["concurrent"] == 3
    assert facts["models"] == ["a", "b"]
    assert facts["store"] is False
    assert facts["expires_at"] == "2030-01-31T00:00:00Z"
    assert facts["note"] == "for Ada"
    assert facts["role"] == "user"


def test_a_time_to_live_counts_from_now(folder: Path) -> None:
    keys(folder, "create", "guest", "--expires", "7d")
    expires = KeyStore.in_folder(folder).get("guest").terms.expires_at
    assert expires is not None
    assert abs(expires - time.time() - 7 * 86_400) < 60


def test_the_list_shows_when_keys_expire(folder: Path) -> None:
    keys(folder, "create", "guest", "--expires", "2100-01-31T00:00:00+00:00")
    keys(folder, "create", "team")
    _, *rows = [row.split("\t") for row in keys(folder, "list").stdout.splitlines()]
    assert [(row[1], row[4]) for row in rows] == [("guest", "2100-01-31"), ("team", "never")]


def test_the_list_says_that_a_key_has_some_models_only(folder: Path) -> None:
    keys(folder, "create", "team", "--requests", "5/minute", "--model", "guide", "--model", "nope")
    assert "5/minute requests; only guide, nope" in keys(folder, "list").stdout


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("show", "team"), ("show", "team", "--json")])
def test_reading_commands_show_no_secret(folder: Path, command: tuple[str, ...]) -> None:
    secret = made(folder, "create", "team").rpartition("_")[2]
    key = KeyStore.in_folder(folder).get("team")
    output = keys(folder, *command).output
    assert key.id in output
    assert secret not in output
    assert key.sha256 not in output


def test_a_model_that_is_not_there_is_warned_of_and_kept(folder: Path) -> None:
    done = keys(folder, "create", "team", "--model", "nomodel", "--model", "guide")
    assert [name in done.stderr for name in ("nomodel", "guide")] == [True, False]
    assert shown(folder, "team")["models"] == ["nomodel", "guide"]
    assert "nomodel" in keys(folder, "change", "team", "--model", "nomodel").stderr


@pytest.mark.parametrize(
    ("options", "typed", "state"), [((), "n\n", "active"), ((), "y\n", "revoked"), (("-y",), "", "revoked")]
)
def test_revoking_asks_a_terminal_first(folder: Path, options: tuple[str, ...], typed: str, state: str) -> None:
    keys(folder, "create", "team")
    on_terminal([*MINIVAULT, "keys", "revoke", "team", "--data-dir", str(folder), *options], typed)
    facts = json.loads(keys(folder, "list", "--all", "--json").stdout)
    assert facts["state"] == state


def test_revoked_keys_are_listed_when_asked_for(folder: Path) -> None:
    keys(folder, "create", "old")
    keys(folder, "revoke", "old")
    assert "old" not in keys(folder, "list").stdout
    assert "revoked" in keys(folder, "list", "--all").stdout


def test_a_list_of_no_keys_says_how_to_make_one(folder: Path) -> None:
    listed = keys(folder, "list")
    assert (listed.stdout, "keys create" in listed.stderr) == ("", True)


def test_a_folder_that_is_new_is_said_to_be(folder: Path) -> None:
    typo = folder / "typo"
    assert f"There is no folder {typo}, and so no key." in keys(typo, "list").stderr
    assert f"The data directory {typo} is new" in keys(typo, "create", "team").stderr
    assert "is new" not in keys(typo, "create", "ops").stderr


def test_a_hint_is_about_the_same_folder(folder: Path) -> None:
    assert f"keys create NAME --role admin --data-dir {folder}\n" in keys(folder, "list").stderr


def test_rotating_prints_the_new_key_and_ends_the_old(folder: Path) -> None:
    before, after = made(folder, "create", "team"), made(folder, "rotate", "team")
    store = KeyStore.in_folder(folder)
    assert store.authenticate(after).name == "team"
    with pytest.raises(Unauthorized):
        store.authenticate(before)


def test_a_rotated_key_can_have_time(folder: Path) -> None:
    before = made(folder, "create", "team")
    keys(folder, "rotate", "team", "--grace", "24h")
    assert KeyStore.in_folder(folder).authenticate(before).name == "team"


def test_changing_leaves_what_is_not_named(folder: Path) -> None:
    keys(folder, "create", "team", "--requests", "5/minute", "--model", "a", "--expires", "1d", "--note", "n")
    keys(folder, "change", "team", "--any-model", "--expires", "never", "--name", "crew", "--tokens", "9/day")
    facts = shown(folder, "crew")
    assert (facts["requests"], facts["note"], facts["tokens"]) == ("5/minute", "n", "9/day")
    assert (facts["models"], facts["expires_at"]) == ([], None)


def test_none_takes_a_limit_away(folder: Path) -> None:
    keys(folder, "create", "team", "--tokens", "9/day")
    keys(folder, "change", "team", "--requests", "none", "--tokens", "none")
    facts = shown(folder, "team")
    assert (facts["requests"], facts["tokens"]) == ("", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--role", "king"),
        ("--expires", "soon"),
        ("--expires", "9999999d"),
        ("--expires", "0d"),
        ("--expires", "2020-01-01"),
        ("--expires", "2001"),
        ("--requests", "often"),
        ("--tokens", "5"),
        ("--note", "n" * 501),
        ("--model", ""),
    ],
)
def test_a_term_that_cannot_be_is_refused(folder: Path, options: tuple[str, ...]) -> None:
    with pytest.raises((CliError, InvalidRequest)):
        keys(folder, "create", "team", *options)
    assert not KeyStore.in_folder(folder).exist()


@pytest.mark.parametrize("command", ["show", "rotate", "revoke", "change"])
def test_a_key_that_is_not_there_is_told(folder: Path, command: str) -> None:
    keys(folder, "create", "team")
    with pytest.raises(UnknownKey):
        keys(folder, command, "nobody")


@pytest.mark.parametrize("command", ["show", "rotate", "revoke", "change"])
def test_the_name_of_a_revoked_key_is_told_as_that(folder: Path, command: str) -> None:
    keys(folder, "create", "team")
    keys(folder, "revoke", "team")
    with pytest.raises(UnknownKey, match="was revoked; minivault keys list --all shows it"):
        keys(folder, command, "team")
    keys(folder, "create", "team")
    assert keys(folder, command, "team").exit_code == 0


def test_what_such_an_error_teaches_works_without_minivault_on_the_path(folder: Path) -> None:
    done = minivault("keys", "show", "nobody", "--data-dir", str(folder), PATH="/nowhere")
    assert f"{sys.executable} -m minivault keys list shows them" in done.stderr


@pytest.mark.parametrize("command", [("revoke", "ops"), ("change", "ops", "--role", "user")])
def test_taking_the_last_key_that_administers_is_warned_of(folder: Path, command: tuple[str, ...]) -> None:
    for name, role in (("ops", "admin"), ("second", "admin"), ("team", "user")):
        keys(folder, "create", name, "--role", role)
    assert "administer" not in keys(folder, "revoke", "second").stderr
    assert "administer" not in keys(folder, "change", "team", "--tokens", "9/day").stderr
    assert "No key may administer now" in keys(folder, *command).stderr
    assert "administer" not in keys(folder, "revoke", "team").stderr


def test_who_has_no_key_to_administer_with_is_told_how_to_make_one(folder: Path) -> None:
    assert "keys create NAME --role admin" in keys(folder, "create", "first").stderr
    assert "--role admin" not in keys(folder, "create", "ops", "--role", "admin").stderr
    assert "--role admin" not in keys(folder, "create", "second").stderr
