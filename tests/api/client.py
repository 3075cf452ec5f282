"""A client of the application over fakes, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from minivault.api.app import create_app
from minivault.settings import Settings
from tests.fakes import Bench

BASE = "http://localhost:8000"


@asynccontextmanager
async def client_of(bench: Bench, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    chosen = Settings(**{"rate_limit": "", **settings})
    app = create_app(chosen, service=bench.service)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client:
        yield client
