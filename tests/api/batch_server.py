"""A server with batches, and what a client of batches does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from minivault.api.app import create_app
from minivault.api.batching import Batching
from minivault.settings import Settings
from tests.api.client import BASE
from tests.fakes import Bench

ENDED = ("completed", "failed", "cancelled", "expired")

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def server_of(bench: Bench, data_dir: Path, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A server with its lifespan: at the end it is closed as one is that was told to stop."""
    app = create_app(Settings(**{"rate_limit": "", "data_dir": data_dir, **settings}), service=bench.service)
    batching: Batching = app.state.batching
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client:
        if (data_dir / "batches.db").exists():
            await batching.resume()
        try:
            yield client
        finally:
            await batching.close()


def batching_of(client: httpx2.AsyncClient) -> Batching:
    batching: Batching = client._transport.app.state.batching  # type: ignore[attr-defined]
    return batching


def lines(*bodies: dict[str, Any], url: str = CHAT) -> bytes:
    rows = [{"custom_id": f"c{place}", "method": "POST", "url": url, "body": body} for place, body in enumerate(bodies)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chat(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}


async def uploaded(client: httpx2.AsyncClient, data: bytes) -> str:
    answer = await client.post("/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def started(client: httpx2.AsyncClient, data: bytes, endpoint: str = CHAT, **fields: Any) -> str:
    asked = {"input_file_id": await uploaded(client, data), "endpoint": endpoint, "completion_window": "24h"}
    answer = await client.post("/v1/batches", json=asked | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def ended(client: httpx2.AsyncClient, batch_id: str) -> dict[str, Any]:
    while True:
        batch: dict[str, Any] = (await client.get(f"/v1/batches/{batch_id}")).json()
        if batch["status"] in ENDED:
            return batch
        await asyncio.sleep(0)


async def done(client: httpx2.AsyncClient, data: bytes, endpoint: str = CHAT, **fields: Any) -> dict[str, Any]:
    """A batch of these lines, from its upload to its end."""
    return await ended(client, await started(client, data, endpoint, **fields))


async def rows_of(client: httpx2.AsyncClient, file_id: str | None) -> list[dict[str, Any]]:
    text = (await client.get(f"/v1/files/{file_id}/content")).text
    return [json.loads(row) for row in text.splitlines()]
