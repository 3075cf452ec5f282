"""Whose word about a client's address is believed: that of the proxies that are listed, and of nobody else.

Pure decisions over strings. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from minivault.errors import ConfigError

MAX_HOPS = 32


class TrustedProxies:
    """The proxies, as addresses or networks such as ``10.0.0.0/8``."""

    def __init__(self, listed: Iterable[str]) -> None:
        """
        Raises:
            ConfigError: one is neither an address nor a network.
        """
        try:
            self._networks = [ip_network(one, strict=False) for one in listed]
        except ValueError:
            raise ConfigError(
                "trusted_proxies: expected addresses or networks, such as 127.0.0.1 or 10.0.0.0/8",
                param="trusted_proxies",
            ) from None

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The client's address: ``peer``, or where that is a proxy, the last address in the ``X-Forwarded-For`` headers
        that is none. What stands before it is the client's own word."""
        address = peer
        hops = [hop for value in forwarded_for for hop in value.split(",")]
        for hop in reversed(hops[-MAX_HOPS:]):
            if not self._trusts(address):
                break
            told = _address(hop)
            if told is None:
                break
            address = str(told)
        return address

    def _trusts(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(
            parsed.version == network.version and parsed in network for network in self._networks
        )


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped or parsed
    return parsed
