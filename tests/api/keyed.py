"""The application over fakes, with keys: one of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.settings import Settings
from tests.api.client import client_of
from tests.fakes import Bench


@dataclass
class Keyring:
    """Keys of a data directory, by name: what is shown, and the ids."""

    store: KeyStore
    shown: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **terms: Any) -> str:
        made = self.store.create(name, KeyTerms(**terms))
        self.shown[name], self.ids[name] = made.text, made.key.id
        return made.text

    def headers(self, name: str | None) -> dict[str, str]:
        return {} if name is None else {"authorization": f"Bearer {self.shown[name]}"}


def keyring(folder: Path | None = None) -> Keyring:
    """One key of each role, named after it, and a second user's, ``other``."""
    data_dir = folder or Settings().data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    keys = Keyring(KeyStore.in_folder(data_dir))
    for role in Role:
        keys.add(role.value, role=role)
    keys.add("other")
    return keys


@asynccontextmanager
async def keyed_client(bench: Bench, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Keyring]]:
    """A client without a key of its own, and the keys that it may show."""
    keys = keyring()
    async with client_of(bench, **settings) as client:
        yield client, keys
