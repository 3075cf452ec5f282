"""Embedding with a model that answers, in a server with little room: who was admitted is not refused by the engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from minivault.access.caller import Caller
from minivault.api.app import create_app
from minivault.embedding import EmbeddingRequest
from minivault.models.loaded import LoadedModel
from minivault.service import Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from tests.fakes import until

CALLER = Caller("10.0.0.1")
PROMPT = {"prompt": "Hi", "max_tokens": 4, "seed": 1}


@asynccontextmanager
async def opened(folder: Path, **given: Any) -> AsyncIterator[tuple[Service, httpx2.AsyncClient]]:
    settings = Settings(data_dir=folder, threads=1, kv_cache_memory=64 << 20, rate_limit="", **given)
    async with open_service(settings) as service:
        transport = httpx2.ASGITransport(create_app(settings, service=service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            yield service, client


def texts(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


async def calls(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await service.records.list())["records"]
    return found


async def ends(service: Service) -> set[str]:
    return {call["finish_reason"] for call in await calls(service)}


async def test_an_idle_server_embeds_more_texts_than_it_has_places(tmp_path: Path) -> None:
    async with opened(tmp_path, max_running=2, max_waiting=2) as (service, client):
        answer = await client.post("/v1/embeddings", json={"input": texts(8)})
        assert (answer.status_code, len(answer.json()["data"])) == (200, 8)
        assert await ends(service) == {"stop"}


async def test_answers_find_their_places_beside_an_embedding_of_many_texts(tmp_path: Path) -> None:
    async with opened(tmp_path, max_running=2, max_waiting=6) as (service, client):
        embedding = asyncio.ensure_future(service.embed(EmbeddingRequest(texts=tuple(texts(60))), CALLER))
        [model] = service.models.loaded()
        assert isinstance(model, LoadedModel)
        await until(lambda: model.engine.stats().waiting >= 6)
        answers = await asyncio.gather(*(client.post("/generate", json=PROMPT) for _ in range(2)))
        embedded = await embedding
        assert [answer.status_code for answer in answers] == [200, 200]
        assert embedded is not None
        assert len(embedded.vectors) == 60
        assert "failed" not in await ends(service)


async def test_who_finds_no_place_is_refused_before_any_work_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, max_running=2, max_waiting=2) as (service, client):
        body = {"input": texts(8)}
        answers = await asyncio.gather(*(client.post("/v1/embeddings", json=body) for _ in range(10)))
        codes = [answer.status_code for answer in answers]
        metrics = service.metrics.render().decode()
        counted = re.findall(r"^minivault_rejected_requests_total\{.*\} (\S+)$", metrics, re.MULTILINE)
        assert len(await calls(service)) == codes.count(200)
        assert await ends(service) == {"stop"}
    assert codes.count(200) >= 4
    assert sum(map(float, counted)) == codes.count(503) == 10 - codes.count(200)
