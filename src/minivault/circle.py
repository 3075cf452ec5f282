"""The servers that a request has come through, so that none asks itself, by way of others, in a circle.

Each process has a name of its own, and tells it to the servers behind it with the names that it was told. Knows nothing
of HTTP or of engines.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import Final

HEADER: Final = "minivault-via"
MOST: Final = 8
"""Servers that are remembered, the last ones."""
_NAME = re.compile("[0-9a-f]{16}")
_OWN: Final = secrets.token_hex(8)

_through: ContextVar[tuple[str, ...]] = ContextVar("through", default=())


def enter(told: str) -> bool:
    """Remember, for what the request leads to, the servers that it has come through: ``told`` is the header's value.
    Returns whether this one is among them."""
    named = tuple(_NAME.findall(told))
    _through.set(named[-MOST:])
    return _OWN in named


def onward() -> str:
    """The header's value for the servers that are asked from here."""
    return ",".join((*_through.get()[1 - MOST :], _OWN))
