"""``minivault vault backup | restore``: the vault as one file elsewhere, and back. Parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minivault.cli import options
from minivault.cli.console import CliError, counting, line, note, program
from minivault.cli.files import read_file, refuse_present, require_folder
from minivault.cli.keys_missing import warn_of_missing_keys
from minivault.cli.units import counted
from minivault.cli.vault_proofs import VerifierKeyOption, verifier_key

if TYPE_CHECKING:
    from minivault.vault.findings import VerifyReport


_SQLITE = b"SQLite format 3\0"
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}
_LOOKED_AT = 4096
_LEAST_PAGE = 512


def register(app: typer.Typer) -> None:
    app.command(
        "backup",
        help="Copy the vault to a file and verify the copy. A server may be running.",
        epilog="Example:\n\n  minivault vault backup /mnt/usb/vault.db",
    )(backup)
    app.command(
        "restore",
        help="Verify a backup and put it in the place of the vault. No server may be running.",
        epilog="Examples:\n\n  minivault vault restore /mnt/usb/vault.db\n\n"
        "  minivault vault restore /mnt/usb/vault.db --replace --against kept.head",
    )(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a former backup that is there.")] = False,
    data_dir: options.DataDir = None,
) -> None:
    from minivault.vault.backup import back_up
    from minivault.vault.cipher import VaultKey

    settings = options.settings(data_dir=data_dir)
    vault_key = VaultKey.of(settings.vault_key_file)
    require_folder(file)
    refuse_present(file, overwrite)
    with counting("Copying and verifying", "records") as progress:
        report = back_up(settings.vault_path, file, key=vault_key, progress=progress)
    line(f"Backed up and verified: {_said(report, 'self-attested')}")
    note("It holds the records alone: copy keys.json and config.toml too.")
    note("The key that signs heads is not in it: keep vault.key safe by itself.")
    if vault_key is not None:
        note("It is encrypted with the vault's key, which is not in it either.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Put a vault that is there aside.")] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="HEAD", help="A signed head that was kept elsewhere.", show_default=False)
    ] = None,
    key: VerifierKeyOption = None,
    data_dir: options.DataDir = None,
) -> None:
    from minivault.vault.backup import restore as restore_vault
    from minivault.vault.cipher import VaultKey
    from minivault.vault.head import HeadPaths, open_note

    settings = options.settings(data_dir=data_dir)
    _require_backup(file)
    vault, vault_key = settings.vault_path, VaultKey.of(settings.vault_key_file)
    head = None if against is None else open_note(read_file(against), verifier_key(key, HeadPaths(vault)))
    with counting("Verifying and copying", "records") as progress:
        restored = restore_vault(file, vault, key=vault_key, against=head, replace=replace, progress=progress)
    line(f"Restored and verified: {_said(restored.report, 'self-attested' if head is None else 'attested')}")
    for path in restored.aside:
        note(f"Put aside: {path}")
    if restored.lost:
        more = counted(restored.lost, "record")
        note(f"The vault had signed for {more} more than this backup holds; a new head is begun.")
    warn_of_missing_keys(settings)


def _require_backup(file: Path) -> None:
    """Refuse what can be no vault, encrypted or not, in words that say what it is.

    Raises:
        CliError: it is none, or cannot be read.
    """
    if not file.is_file():
        said = f"There is no file {file}." if not file.exists() else f"{file} is no file, and no backup."
        raise CliError(said, exit_code=2)
    try:
        with file.open("rb") as reader:
            begin, size = reader.read(_LOOKED_AT), file.stat().st_size
    except OSError as error:
        raise CliError(f"Cannot read {file}: {error.strerror}") from None
    if begin.startswith(_SQLITE):
        return
    kind = _kind_of(begin)
    if kind is None and size % _LEAST_PAGE:
        kind = f"its {counted(size, 'byte')} are no whole pages of a database: it was cut off, or is something else"
    if kind is not None:
        raise CliError(f"{file} is no backup of a vault: {kind}. Make one with: {program()} vault backup FILE")


def _kind_of(begin: bytes) -> str | None:
    """What a file is by its first bytes, where that can be told and is no vault; an encrypted vault has none."""
    if not begin:
        return "it is empty"
    for magic, kind in _ARCHIVES.items():
        if begin.startswith(magic):
            return f"it is packed ({kind}); unpack it first"
    if b"\0" in begin:
        return None
    try:
        # The end may cut a character.
        text = begin[:-4].decode("utf-8") if len(begin) == _LOOKED_AT else begin.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if text.lstrip().startswith("{"):
        return f"it is JSON lines, such as logs/log.jsonl, which are read by: {program()} vault import FILE"
    return "it is text"


def _said(report: VerifyReport, how: str) -> str:
    """``how`` the newest head bears on it: one that was kept elsewhere attests, the vault's own is self-attested."""
    reach = f", {how} up to record {report.attested_size - 1}" if report.attested_size else ""
    return f"{counted(report.records, 'record')} of {counted(report.calls, 'call')}{reach}"
