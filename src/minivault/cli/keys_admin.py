"""Whether any key may administer, and what is said where none may. Knows nothing of how keys are made or kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivault.cli import options
from minivault.cli.console import note, program

if TYPE_CHECKING:
    from minivault.access.keys import KeyStore
    from minivault.settings import Settings

SHUT = "over HTTP and in the page, models, keys and other people's records are shut."


def anybody_administers(keys: KeyStore) -> bool:
    """Whether there is an admin's key that is neither revoked nor expired."""
    return any(keys.is_active(key) and key.terms.role.value == "admin" for key in keys.list())


def hint_at_administration(keys: KeyStore, settings: Settings) -> None:
    """With none but keys that ask, much is shut."""
    if not anybody_administers(keys):
        note(f"No key may administer now: {SHUT}\nMake one for yourself with: {how_to_administer(settings)}")


def how_to_administer(settings: Settings) -> str:
    return f"{program()} keys create NAME --role admin{options.same_folder(settings)}"
