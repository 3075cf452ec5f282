"""Connections between two requests: the server must not be the first to close one that a client may use again."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from minivault.cli import server
from minivault.settings import Settings

PROXIES = 60.0
"""Seconds that nginx and the load balancers of clouds keep an idle connection to a server behind them."""


async def _nothing(*_: Any) -> None:
    return None


@pytest.mark.parametrize("limits", [httpx.Limits(), httpx2.Limits()], ids=["httpx", "httpx2"])
def test_an_idle_connection_is_kept_longer_than_clients_and_proxies_keep_theirs(limits: Any) -> None:
    config = server._config(_nothing, Settings())
    assert config.timeout_keep_alive > max(limits.keepalive_expiry, PROXIES)
