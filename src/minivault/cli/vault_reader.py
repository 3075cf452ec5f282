"""The vault of a data directory, opened to be read for the length of a command.

A folder that is not there, and one whose vault has gone, are refused: neither is a vault with nothing in it. Knows
nothing of what is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivault.cli import options
from minivault.cli.console import CliError, program

if TYPE_CHECKING:
    from minivault.settings import Settings
    from minivault.vault.reader import Reader


def is_missing(settings: Settings) -> bool:
    """Whether a data directory was named, and there is none. The usual one may come with the first start."""
    if "data_dir" not in settings.model_fields_set:
        return False
    try:
        return not settings.data_dir.is_dir()
    except OSError:  # whoever reads it will say why it cannot
        return False


def nothing_yet(settings: Settings) -> str:
    return f"Nothing is on record in {settings.data_dir} yet."


def new_folder(settings: Settings) -> str:
    return f"The data directory {settings.data_dir} is new: there was none of this name."


def require_data_dir(settings: Settings) -> None:
    """
    Raises:
        CliError: a data directory was named, and there is none.
    """
    if is_missing(settings):
        raise CliError(f"There is no folder {settings.data_dir}.", exit_code=2)


@contextmanager
def reading(settings: Settings, *, may_be_gone: bool = False) -> Iterator[Reader]:
    """A reader of the vault that the settings lead to; one that there is none of yet reads as empty.

    ``may_be_gone``: a vault that was there and is not is read as empty too, for who says so himself.

    Raises:
        CliError: the folder that was named is not there; or its vault is gone, for a head over records was signed.
    """
    from minivault.vault.cipher import VaultKey
    from minivault.vault.reader import Reader

    require_data_dir(settings)
    reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
    try:
        if not reader.exists and not may_be_gone:
            _require_never_there(settings)
        yield reader
    finally:
        reader.close()


@contextmanager
def open_vault(data_dir: Path | None, *, may_be_gone: bool = False, **flags: Any) -> Iterator[tuple[Reader, Settings]]:
    """As :func:`reading`, of the vault in ``data_dir``, with the settings that led there."""
    settings = options.settings(data_dir=data_dir, **flags)
    with reading(settings, may_be_gone=may_be_gone) as reader:
        yield reader, settings


def _require_never_there(settings: Settings) -> None:
    from minivault.vault.head import HeadPaths

    newest = HeadPaths(settings.vault_path).load_head()
    if newest is not None and newest.size:
        name = settings.vault_path.name
        raise CliError(
            f"There is no {name} in {settings.data_dir}, but a head over {newest.size} records was signed: it was"
            f" moved or deleted. Bring it back, or a backup of it with: {program()} vault restore FILE"
        )
