"""Makes models that other servers run ready to be asked, with the credential that the settings' environment has.

Opens no connection. Knows nothing of requests.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from minivault.errors import ConfigError
from minivault.models.catalog import ModelEntry
from minivault.models.loaded_remote import RemoteModel
from minivault.models.pooled import Report
from minivault.models.remote_config import RemoteConfig
from minivault.models.remote_entry import remote_config
from minivault.settings import Settings, secret_in

_MOST_BYTES = 16 << 10


class RemoteLoader:
    """Implements :class:`minivault.models.pooled.ModelLoader`."""

    def __init__(self, settings: Settings, budget: int) -> None:
        self._settings = settings

    def need(self, entry: ModelEntry) -> int:
        """Nothing: what it takes, it takes elsewhere."""
        return 0

    def load(self, entry: ModelEntry, report: Report) -> RemoteModel:
        from minivault.engine.remote.engine import RemoteEngine

        config = remote_config(entry)
        engine = RemoteEngine(
            config,
            api_key=api_key_of(config),
            max_waiting=self._settings.max_waiting,
            trusted=trusted_by(self._settings.ca_file),
        )
        return RemoteModel(entry.name, engine)


def trusted_by(ca_file: Path | None) -> ssl.SSLContext | None:
    """Which servers' certificates are believed; ``None``: those that are believed anywhere.

    Raises:
        ConfigError: the file is no list of certificates.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise ConfigError("ca_file must be a PEM file of certificates that can be read", param="ca_file") from None


def api_key_of(config: RemoteConfig) -> str | None:
    """The credential for the servers; ``None`` where none was named.

    Raises:
        ConfigError: one was named, and is not there or cannot be one. It is never shown.
    """
    if config.api_key_env is not None:
        found, name = secret_in(config.api_key_env), "api_key_env"
    elif config.api_key_file is not None:
        found, name = _read(Path(config.api_key_file)), "api_key_file"
    else:
        return None
    if not found or not found.isascii() or not found.isprintable():
        raise ConfigError(f"{name}: the API key of this model's servers is not there, or is none", param=name)
    return found


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return None
