"""What is kept about a model that other servers run: where they are and how patient to be. No credential is kept.

Plain values, checked when they are made. Knows nothing of HTTP or of catalogs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self
from urllib.parse import urlsplit

from minivault.errors import InvalidRequest

MAX_URLS = 64


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """One model on one or many OpenAI-compatible servers. Times in seconds."""

    urls: tuple[str, ...]
    """Each up to and including ``/v1``."""
    upstream_model: str
    """What the servers call it."""
    api_key_env: str | None = None
    """The environment variable that holds the servers' API key."""
    api_key_file: str | None = None
    """The file that holds it."""
    max_in_flight: int = 32
    """Requests that one server may have at once; more wait here."""
    connect_timeout: float = 5.0
    first_token_timeout: float = 300.0
    token_timeout: float = 60.0
    """Between two tokens."""
    health_interval: float = 10.0
    context_length: int = 0
    """Tokens; 0: not known here, the servers decide."""

    def __post_init__(self) -> None:
        """
        Raises:
            InvalidRequest: a value is out of bounds; names it.
        """
        if not 1 <= len(self.urls) <= MAX_URLS:
            raise InvalidRequest(f"url must be given 1 to {MAX_URLS} times", param="url")
        for url in self.urls:
            _check_url(url)
        if len(set(self.urls)) != len(self.urls):
            raise InvalidRequest("url must not name a server twice", param="url")
        if not 1 <= len(self.upstream_model) <= 200:
            raise InvalidRequest("upstream_model must have 1 to 200 characters", param="upstream_model")
        if self.api_key_env is not None and self.api_key_file is not None:
            raise InvalidRequest("api_key_env and api_key_file cannot be used together", param="api_key_file")
        for name, least, most in _BOUNDS:
            if not least <= getattr(self, name) <= most:
                raise InvalidRequest(f"{name} must be from {least:g} to {most:g}", param=name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"urls": list(self.urls)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; names it does not know are left out.

        Raises:
            InvalidRequest: a value is out of bounds.
            KeyError, TypeError, ValueError: it is not what :meth:`to_json` writes.
        """
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        return cls(**known | {"urls": tuple(str(url) for url in stored["urls"])})


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("max_in_flight", 1, 10_000),
    ("connect_timeout", 0.1, 600),
    ("first_token_timeout", 0.1, 86_400),
    ("token_timeout", 0.1, 86_400),
    ("health_interval", 0.1, 3600),
    ("context_length", 0, 1 << 31),
)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidRequest(
            "url must be an http:// or https:// address, such as http://host:8080/v1", param="url"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_sound:
        raise InvalidRequest("url must be an http:// or https:// address, such as http://host:8080/v1", param="url")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidRequest(
            "url must hold no user, password, query or fragment: credentials go into api_key_env or api_key_file",
            param="url",
        )


def is_up_to_v1(url: str) -> bool:
    """Whether ``url`` looks as if the routes of the API followed it; a few servers have them elsewhere."""
    return re.search(r"/v[0-9]", urlsplit(url).path) is not None


def address_of(url: str) -> str:
    """Host and port, to be shown."""
    return urlsplit(url).netloc
