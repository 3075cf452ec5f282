"""Which Host and Origin names this server answers to: the defence against DNS rebinding and cross-site requests.

Pure decisions over strings. Knows nothing of requests, responses or status codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from minivault.errors import ConfigError

ANY_NAME = "*"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, never bound to


def host_name(host: str) -> str | None:
    """The name in a ``Host`` value, lower case, without port and brackets; ``None`` when it is not well-formed."""
    try:
        parts = urlsplit(f"//{host}")
        port_is_sound = parts.port is None or True  # reading the port checks it
        name = parts.hostname
    except ValueError:
        return None
    if not port_is_sound or not name or parts.path or parts.query or parts.fragment or "@" in host:
        return None
    return name.rstrip(".") or None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class HostGuard:
    """The allow-list of names. A name an attacker controls may resolve to this machine, so names are listed;
    an address cannot be rebound, so a server bound to every address answers to any address literal."""

    def __init__(
        self, bound_host: str, allowed_hosts: Sequence[str] = (), asks_for_keys: Callable[[], bool] = lambda: False
    ) -> None:
        """``asks_for_keys`` is asked only where every name is allowed.

        Raises:
            ConfigError: every name is allowed, and no key keeps out the pages that use one.
        """
        if ANY_NAME in allowed_hosts and not asks_for_keys():
            raise ConfigError(
                "allowed_hosts: * lets every web page that you visit reach this server under a name of its own. List "
                "the names, or ask for keys first: require_keys, or minivault keys create NAME --role admin."
            )
        self._any_address = bound_host in _WILDCARDS
        listed = [*LOOPBACK_NAMES, bound_host, *allowed_hosts]
        self._names = {name for host in listed if (name := host_name(f"[{host}]" if host.count(":") > 1 else host))}
        self._everything = ANY_NAME in allowed_hosts

    def permits_host(self, host: str | None) -> bool:
        if self._everything:
            return True
        name = host_name(host) if host else None
        if name is None:
            return False
        return name in self._names or (self._any_address and _is_address(name))

    def permits_origin(self, origin: str | None, host: str | None) -> bool:
        """True without an Origin, and for the server's own: the Origin's authority equals the Host it was asked as."""
        if origin is None:
            return True
        scheme, separator, authority = origin.partition("://")
        if not separator or scheme not in ("http", "https") or host is None:
            return False
        return _authority(authority, scheme) == _authority(host, scheme)


def _authority(value: str, scheme: str) -> tuple[str | None, int]:
    name = host_name(value)
    port = urlsplit(f"//{value}").port if name else None
    return name, port or (443 if scheme == "https" else 80)
