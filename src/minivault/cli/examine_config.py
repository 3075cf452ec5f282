"""Looks at the settings and what they name: the API keys, the certificate, Redis, who else could read the secrets.

Changes nothing. Knows nothing of records or of models.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minivault.cli.console import program
from minivault.cli.examine_findings import Finding, Verdict
from minivault.cli.examine_start import faults, is_refused_as_open
from minivault.cli.keys_admin import SHUT, anybody_administers, how_to_administer
from minivault.errors import ConfigError, LimitsUnavailable, MiniVaultError
from minivault.files import HAS_MODES

if TYPE_CHECKING:
    from minivault.settings import Settings

PATIENCE_SECONDS = 10.0
"""For a Redis to answer."""


def examine_config(settings: Settings) -> Iterator[Finding]:
    from minivault.settings import origins, unknown_variables

    given = [name for name, origin in origins(settings.data_dir).items() if origin != "default"]
    yield Finding("config", "settings", "ok", f"set: {', '.join(given)}" if given else "all at their defaults")
    for name, meant in unknown_variables().items():
        advice = f"Did you mean {meant}?" if meant else f"Is it misspelt? `{program()} config show` has all."
        yield Finding("config", name, "warn", "no setting of this version", advice)
    for name, fault in faults(settings):
        yield Finding("config", name, "fail", fault, f"No server starts so. Mend it; {program()} config show has all.")
    yield from _keys(settings)
    yield from _modes(settings)
    yield from _certificate(settings)
    yield from _head_export(settings)
    yield from _limits(settings)


def _keys(settings: Settings) -> Iterator[Finding]:
    from minivault.access.keys import KeyStore

    try:
        keys = KeyStore.in_folder(settings.data_dir)
        number, administered = len(keys.list()), anybody_administers(keys)
        refused = is_refused_as_open(settings)
    except MiniVaultError as error:
        advice = "Mend or restore the file; until then no key is believed."
        yield Finding("config", "API keys", "fail", error.message, advice)
        return
    make = f"Make a key: {program()} keys create NAME --role admin"
    if refused:
        found = f"none, and host is {settings.host}"
        yield Finding("config", "API keys", "fail", found, f"No server starts so, for who reaches it could ask. {make}")
    elif number and not administered:
        found = f"{number} made, and none may administer: {SHUT[:-1]}"
        yield Finding("config", "API keys", "warn", found, f"Make one: {how_to_administer(settings)}")
    elif number or settings.require_keys:
        yield Finding("config", "API keys", "ok", f"{number} made")
    elif settings.unsafe_bind and settings.host not in ("127.0.0.1", "::1", "localhost"):
        found = f"none, and host is {settings.host}"
        yield Finding("config", "API keys", "warn", found, f"Whoever reaches the port could ask. {make}")
    else:
        yield Finding("config", "API keys", "ok", "none, and only this machine can ask")


def _modes(settings: Settings) -> Iterator[Finding]:
    """Files with secrets that others on this machine could read."""
    from minivault.access.keys import FILE_NAME

    for name in ("", "vault.key", FILE_NAME):
        path = settings.data_dir / name
        if HAS_MODES and path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            advice = f"Others on this machine can look in: chmod {'700' if path.is_dir() else '600'} {path}"
            yield Finding("config", name or "data directory", "warn", "open to others", advice)
    for name, secret in (("tls_key", settings.tls_key), ("vault_key_file", settings.vault_key_file)):
        if HAS_MODES and secret is not None and secret.exists() and (change := _closing(secret.stat())):
            advice = f"Others on this machine can read the key: chmod {change} {secret}"
            yield Finding("config", name, "warn", "open to others", advice)


def _closing(found: os.stat_result) -> str:
    """What ``chmod`` must do so that no stranger reads a key that may lie anywhere; empty: nothing. Of a file that
    belongs to another user, as often to the system, this one may read it through its group alone."""
    own = found.st_uid == os.geteuid()
    strangers = stat.S_IRWXO | (stat.S_IRWXG if own else 0)
    return "" if not found.st_mode & strangers else "600" if own else "o-rwx"


def _certificate(settings: Settings) -> Iterator[Finding]:
    """How long it holds; of files that are none, the settings' faults tell."""
    from minivault.cli.certificate import RENEW, validity

    found = None if settings.tls_cert is None else validity(settings.tls_cert, time.time())
    if found is not None:
        verdict: Verdict = "fail" if found.is_refused else "warn" if found.is_short else "ok"
        yield Finding("config", "certificate", verdict, str(found), "" if verdict == "ok" else RENEW)


def _head_export(settings: Settings) -> Iterator[Finding]:
    """Whether heads can get to where they are to be exported. No server waits for that, nor stays away for it."""
    from minivault.vault.head_export import why_not

    if settings.head_export is not None and (wrong := why_not(settings.head_export)) is not None:
        advice = (
            "Heads are signed, but no copy is kept elsewhere: make that folder, let who runs the server write in it, "
            "or name another file. No restart is needed once the file can be written."
        )
        yield Finding("config", "head_export", "fail", f"heads cannot be exported: {wrong}", advice)


def _limits(settings: Settings) -> Iterator[Finding]:
    """Whether limits can be counted where they are to be. An address that is none is among the settings' faults."""
    if settings.limits_storage == "memory":
        return
    try:
        asyncio.run(_count(settings.limits_storage))
    except LimitsUnavailable as error:
        advice = "Every request gets 503 meanwhile: start that Redis, or see to limits_storage; memory needs none."
        yield Finding("config", "limits_storage", "fail", error.message, advice)
    except ConfigError:
        return
    else:
        yield Finding("config", "limits_storage", "ok", "Redis answers")


async def _count(storage: str) -> None:
    from minivault.access.storage import windows_in

    windows = windows_in(storage, time.monotonic)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await windows.check()
    except TimeoutError:
        raise LimitsUnavailable("Limits cannot be counted now: Redis does not answer.") from None
    finally:
        await windows.close()
