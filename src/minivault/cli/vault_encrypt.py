"""``minivault vault encrypt | decrypt``: the vault's file under a key, another, or none. Parses and prints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import CliError, counting, line, note
from minivault.cli.units import counted

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.cipher import VaultKey
    from minivault.vault.findings import VerifyReport

ENCRYPT_EXAMPLES = """\
Examples:

  minivault vault encrypt --key-file ~/keys/minivault.hex    the key is made if the file is not there

  minivault vault encrypt --key-file ~/keys/second.hex       of an encrypted vault: the key is exchanged
"""

DECRYPT_EXAMPLES = """\
Examples:

  MINIVAULT_VAULT_KEY_FILE=~/keys/minivault.hex minivault vault decrypt
"""


def register(app: typer.Typer) -> None:
    app.command(
        "encrypt",
        help="Encrypt the vault's file, or exchange its key. No server may be running.",
        epilog=ENCRYPT_EXAMPLES,
    )(encrypt)
    app.command(
        "decrypt", help="Write the vault's file in plain again. No server may be running.", epilog=DECRYPT_EXAMPLES
    )(decrypt)


def encrypt(
    key_file: Annotated[Path, typer.Option("--key-file", metavar="FILE", help="The key from now on; made if missing.")],
    data_dir: options.DataDir = None,
) -> None:
    from minivault.vault.cipher import VaultKey, is_plain
    from minivault.vault.moving import list_of

    settings = options.settings(data_dir=data_dir)
    _settle(settings)
    vault, path = settings.vault_path, key_file.expanduser()
    there = vault.is_file() and is_plain(vault) is not None
    old = VaultKey.of(settings.vault_key_file) if there and not is_plain(vault) else None
    if there and old is None and not is_plain(vault):
        raise CliError("The vault is encrypted already: name its present key with MINIVAULT_VAULT_KEY_FILE.")
    made = not path.exists()
    new = VaultKey.create(path) if made else VaultKey.load(path)
    if old == new:
        raise CliError("The vault is encrypted with this key already.")
    if there:
        try:
            report = _recode(settings, old, new)
        except BaseException:
            # why these: what bears the key already, or is about to, would be lost with it
            if made and not list_of(vault).exists() and is_plain(vault) is not False:
                path.unlink(missing_ok=True)
            raise
        _tell("Encrypted", report)
    else:
        line("There is no vault yet: it will be encrypted with this key from its first record on.")
    _say_what_is_left(settings, path)


def decrypt(data_dir: options.DataDir = None) -> None:
    from minivault.vault.cipher import VaultKey, is_plain

    settings = options.settings(data_dir=data_dir)
    if not settings.vault_path.is_file():
        raise CliError(f"There is no vault in {settings.data_dir}: nothing to decrypt.")
    _settle(settings)
    batches = settings.batches_path
    # What was cut between the two files is gone on with.
    if is_plain(settings.vault_path) and not (batches.is_file() and is_plain(batches) is False):
        raise CliError(f"The vault in {settings.data_dir} is not encrypted.")
    old = VaultKey.of(settings.vault_key_file)
    if old is None:
        raise CliError("Name the vault's key with MINIVAULT_VAULT_KEY_FILE.", exit_code=2)
    _tell("Written in plain", _recode(settings, old, None))
    note("Leave vault_key_file out of the settings from now on.")


def _settle(settings: Settings) -> None:
    """Finish what was interrupted, if anything was."""
    from minivault.vault.database import as_error
    from minivault.vault.lock import WriterLock
    from minivault.vault.moving import list_of

    if list_of(settings.vault_path).exists():
        try:
            WriterLock(settings.vault_path).release()
        except OSError as error:
            raise as_error(error, "the vault's folder cannot be used") from error
        note("A restore, or a change of key, that was interrupted is finished now.")


def _recode(settings: Settings, old: VaultKey | None, new: VaultKey | None) -> VerifyReport:
    from minivault.batches.database import recoded_copy
    from minivault.vault.recode import Beside, recode

    beside = Beside(settings.batches_path, partial(recoded_copy, settings.batches_path))
    with counting("Writing anew and verifying", "records") as progress:
        return recode(settings.vault_path, old, new, progress=progress, beside=beside)


def _tell(done: str, report: VerifyReport) -> None:
    line(f"{done} and verified: {counted(report.records, 'record')} of {counted(report.calls, 'call')}")


def _say_what_is_left(settings: Settings, path: Path) -> None:
    if settings.vault_key_file is None or settings.vault_key_file.absolute() != path.absolute():
        note(f'From now on say: vault_key_file = "{path.absolute()}" in {settings.config_path},')
        note("or MINIVAULT_VAULT_KEY_FILE. Without the key nobody reads the vault again: keep a copy of it safe.")
    if any(settings.log_dir.glob("log.jsonl*")):
        note(f"What {settings.log_dir} holds is plain text still, and is written no more: delete it.")
    for aside in sorted(settings.vault_path.parent.glob(f"{settings.vault_path.name}.before-*")):
        note(f"{aside} was put aside by a restore and is as it was: delete it, if nobody needs it.")
    note("Backups that were made before are as they were. What a disk keeps of deleted files is not wiped.")
