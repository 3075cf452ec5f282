"""Looks at the vault, its key file, and the keys that sign its heads: whether a server would start on them, and whether
the records are in order.

Changes no file, and makes none but what SQLite has beside a database that is read. Knows nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from minivault.cli.console import program, taught
from minivault.cli.examine_findings import Finding
from minivault.cli.units import counted
from minivault.errors import LedgerUnavailable, MiniVaultError, VaultCorrupt

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.head import Head
    from minivault.vault.reader import Reader

QUICK_RECORDS = 100_000
"""Vaults up to this size are verified here, others by `minivault vault verify`."""
KEY_ADVICE = (
    "Set vault_key_file to the file that holds this vault's own key, or put that file back; leave the setting out for "
    "a vault that is not encrypted. Look there first: the vault itself need not be at fault."
)
SIGNING_ADVICE = (
    "Bring vault.key, vault.pub and vault.head back from one copy of this folder. If there is none, move away those "
    "that are left: the next start begins a new series of heads. No record is lost either way."
)
READ_ADVICE = "Who runs the server must be able to read it: see to its owner and its mode."


def examine_vault(settings: Settings) -> Iterator[Finding]:
    from minivault.vault.cipher import VaultKey
    from minivault.vault.moving import require_settled
    from minivault.vault.reader import Reader
    from minivault.vault.start import require_signing

    try:
        key = VaultKey.of(settings.vault_key_file)
    except MiniVaultError as error:
        # Asked for without a vault too: no server starts so.
        yield Finding("vault", "key file", "fail", taught(error.message), KEY_ADVICE)
        return
    try:
        require_settled(settings.vault_path)
    except LedgerUnavailable as error:
        yield Finding("vault", "file", "warn", taught(error.message), "Nothing is lost: the next start does it.")
        return
    newest, wrong = None, None
    try:
        # Order: before the records, which may grow meanwhile.
        newest = require_signing(settings.vault_path)
    except MiniVaultError as error:
        wrong = error.message
        advice = SIGNING_ADVICE if isinstance(error, VaultCorrupt) else READ_ADVICE
        yield Finding("vault", "signed heads", "fail", taught(wrong), advice)
    else:
        found = "none yet" if newest is None else f"the newest covers {counted(newest.size, 'record')}"
        yield Finding("vault", "signed heads", "ok", found)
    with closing(Reader.open(settings.vault_path, key)) as reader:
        yield from _file(reader, newest, wrong)


def _file(reader: Reader, newest: Head | None, wrong: str | None) -> Iterator[Finding]:
    """``wrong``: what was told of the heads."""
    from minivault.vault.start import require_continued

    try:
        require_continued(reader, newest)
        if reader.exists:
            yield _records(reader, wrong)
        else:
            yield Finding("vault", "records", "ok", "none yet")
    except MiniVaultError as error:
        yield Finding("vault", "file", "fail", taught(error.message), _advice_on(error, reader.exists))


def _advice_on(error: MiniVaultError, is_there: bool) -> str:
    """What to do about a vault that cannot be opened. A backup is for one that is damaged: it takes the place of all
    that was recorded since."""
    if "vault_key_file" in error.message:
        return KEY_ADVICE
    if not isinstance(error, VaultCorrupt):
        return READ_ADVICE
    if "start the server" in error.message:
        return "Nothing is lost: the next start does it."
    restore = f"estore a backup: {program()} vault restore --help"
    if is_there and "set back" not in error.message:
        return f"R{restore}"
    return (
        "Move vault.db, vault.db-wal and vault.db-shm away, as far as they are there, and put vault.db and "
        f"vault.db-wal back, both from one copy; or r{restore}"
    )


def _records(reader: Reader, wrong: str | None) -> Finding:
    from minivault.vault.verify import verify

    calls = reader.count()
    if calls > QUICK_RECORDS:
        advice = f"Too many to check here: {program()} vault verify"
        return Finding("vault", "records", "ok", counted(calls, "call"), advice)
    if all(one.message == wrong for one in verify(reader, contents=False).findings):
        found = f"{counted(calls, 'call')}, in order (what they say is checked by: {program()} vault verify)"
        return Finding("vault", "records", "ok", found)
    found = f"{counted(calls, 'call')}, and not as they were"
    return Finding("vault", "records", "fail", found, f"See: {program()} vault verify")
