"""Names that the server answers to."""

from __future__ import annotations

import pytest

from minivault.access.guard import HostGuard
from minivault.errors import ConfigError

LOCAL = HostGuard("127.0.0.1")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST:1"]
)
def test_own_names_are_permitted(host: str) -> None:
    assert LOCAL.permits_host(host)


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example",
        "192.168.1.2",
        "localhost@evil.example", "evil.example@localhost", "localhost/x", "localhost:port", "localhost:99999", "[::1",
        "localhost, evil.example",
        "0.0.0.0",  # noqa: S104 - a value, not a bind
    ],
)  # fmt: skip
def test_a_rebound_name_is_refused(host: str | None) -> None:
    assert not LOCAL.permits_host(host)


def test_listed_names_are_permitted() -> None:
    guard = HostGuard("127.0.0.1", ["vault.lan"])
    assert guard.permits_host("vault.lan:8000")
    assert not guard.permits_host("other.lan")


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])  # noqa: S104 - a value, not a bind
def test_a_server_on_every_address_answers_to_addresses_but_not_to_names(bound: str) -> None:
    guard = HostGuard(bound)
    assert guard.permits_host("192.168.1.2:8000")
    assert guard.permits_host("[fe80::1]:8000")
    assert not guard.permits_host("evil.example")


def test_a_star_permits_all_where_keys_are_asked_for() -> None:
    assert HostGuard("127.0.0.1", ["*"], lambda: True).permits_host("anything.example")


def test_a_star_without_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"allowed_hosts.*keys create"):
        HostGuard("127.0.0.1", ["vault.lan", "*"])


@pytest.mark.parametrize("origin", [None, "http://localhost:8000"])
def test_the_own_origin_and_none_are_permitted(origin: str | None) -> None:
    assert LOCAL.permits_origin(origin, "localhost:8000")


def test_default_ports_need_not_be_written() -> None:
    assert LOCAL.permits_origin("https://localhost", "localhost:443")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "http://localhost:3000",
        "http://localhost",
        "file://",
        "http://",
        "",
        "//localhost",
    ],
)
def test_foreign_origins_are_refused(origin: str) -> None:
    assert not LOCAL.permits_origin(origin, "localhost:8000")
