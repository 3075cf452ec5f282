"""A model whose files change while it is in memory is still shown, unloaded and removed, over HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.api.app import create_app
from minivault.models.catalog import Catalog
from minivault.service.opening import open_service
from minivault.settings import Settings
from tests.oracle.golden import folder_of


@asynccontextmanager
async def with_mine_in_memory(data_dir: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, Path]]:
    """A client, and the folder of the model ``mine``."""
    entry = Catalog(data_dir / "models").import_folder(folder_of("llama-gqa"), "mine")
    settings = Settings(data_dir=data_dir, threads=2, kv_cache_memory=4 << 20, rate_limit="")
    async with open_service(settings) as service:
        transport = httpx2.ASGITransport(create_app(settings, service=service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=60) as client:
            assert (await client.post("/models/mine/load")).json()["loaded"]
            yield client, entry.path


def change(folder: Path) -> None:
    with (folder / "config.json").open("a") as file:
        file.write(" ")


async def told(client: httpx2.AsyncClient) -> tuple[dict[str, Any] | None, str | None]:
    """What ``GET /models`` says of it: among the models, and among the damaged."""
    found = (await client.get("/models")).json()
    return (
        next((model for model in found["models"] if model["name"] == "mine"), None),
        next((one["error"] for one in found["damaged"] if one["name"] == "mine"), None),
    )


@pytest.mark.parametrize(
    ("damage", "says"),
    [(change, "config.json changed"), (shutil.rmtree, "Its files are gone")],
    ids=["changed", "gone"],
)
async def test_it_is_shown_in_memory_and_can_be_unloaded(tmp_path: Path, damage: Any, says: str) -> None:
    async with with_mine_in_memory(tmp_path) as (client, folder):
        damage(folder)
        model, error = await told(client)
        assert (model is not None and model["state"], says in (error or "")) == ("loaded", True)
        assert "mine:latest" in [one["name"] for one in (await client.get("/api/ps")).json()["models"]]
        asked = {"model": "mine", "prompt": "The quick", "raw": True, "max_tokens": 2}
        assert (await client.post("/generate", json=asked)).status_code == 200
        left = await client.post("/models/mine/unload")
        assert (left.status_code, left.json()["state"]) == (200, "unloaded")
        assert (await told(client))[0] is None
        assert "mine" not in (await client.get("/health")).json()["models"]


async def test_one_whose_files_are_gone_leaves_memory_by_the_same_request(tmp_path: Path) -> None:
    async with with_mine_in_memory(tmp_path) as (client, folder):
        shutil.rmtree(folder)
        assert (await client.delete("/models/mine")).status_code == 204
        assert await told(client) == (None, None)
        assert (await client.delete("/models/mine")).status_code == 404


async def test_one_whose_load_failed_is_removed(tmp_path: Path) -> None:
    async with with_mine_in_memory(tmp_path) as (client, folder):
        await client.post("/models/mine/unload")
        weights = folder / "model.safetensors"
        facts = weights.stat()
        weights.write_bytes(bytes(facts.st_size))
        manifest = json.loads((folder / "minivault.json").read_text())
        manifest["files"]["model.safetensors"]["sha256"] = hashlib.sha256(bytes(facts.st_size)).hexdigest()
        (folder / "minivault.json").write_text(json.dumps(manifest))
        assert (await client.post("/models/mine/load")).status_code == 503
        change(folder)
        assert (await client.delete("/models/mine")).status_code == 204
        assert not folder.exists()


async def test_it_is_unloaded_and_removed_by_one_request(tmp_path: Path) -> None:
    async with with_mine_in_memory(tmp_path) as (client, folder):
        change(folder)
        (folder / "minivault.json").write_text("{}")
        assert (await client.delete("/models/mine")).status_code == 204
        assert await told(client) == (None, None)


async def test_damage_is_told_without_a_time_to_try_again(tmp_path: Path) -> None:
    async with with_mine_in_memory(tmp_path) as (client, folder):
        await client.post("/models/mine/unload")
        change(folder)
        for path, body in (("/models/mine/unload", None), ("/generate", {"model": "mine", "prompt": "x"})):
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "checkpoint_corrupt")
            assert "retry-after" not in refused.headers
