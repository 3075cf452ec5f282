"""Opens a service from the settings: the ledger, the reader, the catalog and the default model.

Used by the server and by commands that need no server. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from minivault.service.service import Service
from minivault.settings import Settings
from minivault.telemetry.metrics import Metrics


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Service]:
    raise RuntimeError
    yield
