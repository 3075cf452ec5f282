"""A vault whose records name API keys, in a folder that has none: nothing keeps its records apart. Says so.

Knows nothing of how keys are checked, or of how the folder came to be so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivault.cli import options
from minivault.cli.console import note, program

if TYPE_CHECKING:
    from minivault.settings import Settings


def warn_of_missing_keys(settings: Settings) -> None:
    """Warn where records name API keys and the data directory has no ``keys.json``. A vault that cannot be read is
    left to whoever needs it."""
    from minivault.access.keys import FILE_NAME
    from minivault.errors import MiniVaultError
    from minivault.vault.cipher import VaultKey
    from minivault.vault.reader import Reader

    if (settings.data_dir / FILE_NAME).exists() or not settings.vault_path.is_file():
        return
    try:
        reader = Reader.open(settings.vault_path, VaultKey.of(settings.vault_key_file))
        try:
            named = reader.names_keys()
        finally:
            reader.close()
    except MiniVaultError:
        return
    if named:
        note(f"Warning: records here were made with API keys, and there is no {FILE_NAME} in {settings.data_dir}.")
        note(f"  {_open(settings)}")
        note(f"  Put {FILE_NAME} back from a copy, or make a key: {_create(settings)}")


def _open(settings: Settings) -> str:
    if settings.require_keys:
        return "The server answers nobody until there is a key, for require_keys is set."
    return "Without keys, whoever reaches the server reads everybody's records."


def _create(settings: Settings) -> str:
    return f"{program()} keys create NAME --role admin{options.same_folder(settings)}"
