"""Whose word about an address counts."""

from __future__ import annotations

import pytest

from minivault.access.proxies import TrustedProxies
from minivault.errors import ConfigError

PROXIES = TrustedProxies(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),  # a stranger's word
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("::1", ["203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.7, 203.0.113.5"], "203.0.113.5"),  # the first is the client's own invention
        ("10.0.0.1", ["198.51.100.7", "203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["203.0.113.5, 10.1.1.1"], "203.0.113.5"),  # through two proxies
        ("10.0.0.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, "], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2," * 10_000], "10.0.0.1"),
    ],
)  # fmt: skip
def test_the_client_is_the_last_address_that_is_no_proxy(peer: str, headers: list[str], client: str) -> None:
    assert PROXIES.client(peer, headers) == client


def test_without_proxies_no_header_counts() -> None:
    assert TrustedProxies([]).client("127.0.0.1", ["203.0.113.5"]) == "127.0.0.1"


@pytest.mark.parametrize("listed", ["proxy.lan", "10.0.0.0/99", "", "*"])
def test_a_list_that_cannot_be_read_names_the_setting(listed: str) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        TrustedProxies([listed])
