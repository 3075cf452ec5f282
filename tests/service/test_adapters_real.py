"""Adapters over HTTP on the real engine: asked by name beside their base, on record, replayed, listed, taken away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.api.app import create_app
from minivault.models.adapter_entry import add_adapter
from minivault.models.catalog import Catalog
from minivault.service import Service
from minivault.service.loading import Loaders
from minivault.service.opening import open_service
from minivault.settings import Settings
from tests.oracle.adapters import ADAPTER_DATA
from tests.oracle.golden import folder_of

NAMES = ("base", "base:all", "base:qv")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    catalog = Catalog(tmp_path / "models")
    catalog.import_folder(folder_of("llama-gqa"), "base")
    add_adapter(catalog, "base", ADAPTER_DATA / "llama-all", "all")
    add_adapter(catalog, "base", ADAPTER_DATA / "llama-qv", "qv")
    return tmp_path


@asynccontextmanager
async def serving(data_dir: Path, **changes: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Service]]:
    chosen: dict[str, Any] = {"model": "base", "threads": 2, "kv_cache_memory": 4 << 20, "rate_limit": ""}
    settings = Settings(data_dir=data_dir, **(chosen | changes))
    async with open_service(settings) as service:
        transport = httpx2.ASGITransport(create_app(settings, service=service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=60) as client:
            yield client, service


async def answer(client: httpx2.AsyncClient, model: str, number: int = 0) -> dict[str, Any]:
    body = {"model": model, "prompt": f"{number} The quick brown fox", "raw": True, "max_tokens": 16, "temperature": 0}
    found = await client.post("/generate", json=body | {"ignore_eos": True})
    assert found.status_code == 200, found.text
    answered: dict[str, Any] = found.json()
    return answered


async def test_base_and_adapters_in_one_batch_answer_as_alone(data_dir: Path) -> None:
    async with serving(data_dir) as (client, _):
        alone = {(name, n): (await answer(client, name, n))["response"] for name in NAMES for n in range(4)}
        jobs = [(name, n) for n in range(4) for name in NAMES]
        found = await asyncio.gather(*(answer(client, *job) for job in jobs))
    assert {job: one["response"] for job, one in zip(jobs, found, strict=True)} == alone
    assert len({alone[name, 0] for name in NAMES}) == 3
    assert [one["model"] for one in found[:3]] == list(NAMES)


async def test_its_record_is_replayed_until_the_adapter_is_another(data_dir: Path) -> None:
    async with serving(data_dir) as (client, _):
        found = await answer(client, "base:all")
        assert (await client.post(f"/vault/records/{found['id']}/replay", json={})).json()["verdict"] == "MATCH"
        detail = (await client.get(f"/vault/records/{found['id']}")).json()
        assert detail["model"] == "base:all"
    async with serving(data_dir) as (client, _):  # after a restart, from files alone
        assert (await client.post(f"/vault/records/{found['id']}/replay", json={})).json()["verdict"] == "MATCH"
        assert (await client.delete("/models/base:all")).status_code == 204
        add_adapter(Catalog(data_dir / "models"), "base", ADAPTER_DATA / "llama-qv", "all")
        replayed = (await client.post(f"/vault/records/{found['id']}/replay", json={})).json()
    assert (replayed["verdict"], replayed["reason"]) == ("NOT COMPARABLE", "it was answered by other weights")


async def test_it_is_listed_shown_loaded_and_unloaded_like_a_model(data_dir: Path) -> None:
    async with serving(data_dir) as (client, service):
        assert [one["id"] for one in (await client.get("/v1/models")).json()["data"]] == ["guide", *NAMES]
        tags = [one["name"] for one in (await client.get("/api/tags")).json()["models"]]
        assert tags == ["guide:latest", "base:latest", "base:all", "base:qv"]
        assert (await client.post("/models/base:qv/load", json={})).json()["loaded"]
        states = service.models.states()
        assert 0 < states["base:qv"]["memory_bytes"] < states["base"]["memory_bytes"]
        shown = (await client.get("/models/base:qv")).json()
        assert (shown["source"], shown["context_length"]) == ({"kind": "adapter", "base": "base"}, 256)
        assert not (await client.post("/models/base:qv/unload")).json()["loaded"]
        assert (await client.post("/models/base:qv/verify")).json()["sound"]
        assert service.models.states()["base"]["loaded"]


async def test_ollamas_api_takes_an_adapter_for_a_tag(data_dir: Path) -> None:
    async with serving(data_dir) as (client, _):
        asked = {"raw": True, "prompt": "The quick", "stream": False, "options": {"num_predict": 8, "temperature": 0}}
        said = {}
        for name in ("base", "base:latest", "base:all"):
            said[name] = (await client.post("/api/generate", json=asked | {"model": name})).json()["response"]
    assert said["base"] == said["base:latest"] != said["base:all"]


async def test_an_unknown_adapter_is_404_and_names_those_of_its_base(data_dir: Path) -> None:
    async with serving(data_dir) as (client, _):
        found = await client.post("/generate", json={"model": "base:nope", "prompt": "x"})
    assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")
    assert "base:all, base:qv" in found.json()["error"]["message"]


async def test_an_adapter_can_be_the_default_and_a_broken_one_is_told(data_dir: Path) -> None:
    async with serving(data_dir, model="base:qv") as (client, _):
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/generate", json={"prompt": "x", "max_tokens": 1})).json()["model"] == "base:qv"
        weights = data_dir / "models" / "base:all" / "adapter_model.safetensors"
        shutil.copyfile(ADAPTER_DATA / "gpt2-all" / "adapter_model.safetensors", weights)
        found = await client.post("/generate", json={"model": "base:all", "prompt": "x"})
    assert found.json()["error"]["code"] == "checkpoint_corrupt"


async def test_many_requests_load_an_adapter_once_and_none_is_left_held(data_dir: Path) -> None:
    async with serving(data_dir) as (client, service):
        found = await asyncio.gather(*(answer(client, "base:all") for _ in range(8)))
        states = service.models.states()
    assert len({one["response"] for one in found}) == 1
    assert (states["base:all"]["in_use"], states["base"]["in_use"]) == (0, 0)


async def test_adapters_leave_for_each_other_within_the_budget_and_answer_as_before(data_dir: Path) -> None:
    async with serving(data_dir) as (client, service):
        first = {name: (await answer(client, name))["response"] for name in NAMES}
        states = service.models.states()
    base, catalog = states["base"]["memory_bytes"], Catalog(data_dir / "models")
    tight = base + max(Loaders(Settings(), 1 << 30).adapter_need(catalog.get(name)) for name in NAMES[1:])
    async with serving(data_dir, memory_budget=tight) as (client, service):
        for _ in range(2):
            assert {name: (await answer(client, name))["response"] for name in NAMES} == first
            assert sum(state["memory_bytes"] for state in service.models.states().values()) <= tight
        assert "base:all" not in service.models.states()
    async with serving(data_dir, memory_budget=base + 512) as (client, _):
        refused = await client.post("/generate", json={"model": "base:all", "prompt": "x"})
        assert refused.json()["error"]["code"] == "model_too_large"
        assert (await answer(client, "base"))["response"] == first["base"]
