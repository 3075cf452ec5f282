"""Several real models in one process: served at once, leaving and coming back under load, and giving memory back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from minivault.access.caller import Caller
from minivault.errors import ModelTooLarge
from minivault.generation import FinishReason, GenerationRequest, SamplingParams
from minivault.models.catalog import Catalog
from minivault.service import ReplayVerdict, Service
from minivault.service.loading import Loaders
from minivault.service.opening import open_pool, open_service
from minivault.settings import Settings
from tests.models.folders import copy_of, edit_tensors
from tests.oracle.golden import folder_of

CALLER = Caller("10.0.0.1")
MODELS = ("guide", "llama-gqa", "qwen3")
KV = 4 << 20


def imported(data_dir: Path) -> None:
    catalog = Catalog(data_dir / "models")
    for name in MODELS[1:]:
        catalog.import_folder(folder_of(name), name)


def needs(data_dir: Path) -> dict[str, int]:
    settings = Settings(data_dir=data_dir, kv_cache_memory=KV)
    loaders = Loaders(settings, 1 << 40)
    return {name: loaders.need(Catalog(settings.models_dir).get(name)) for name in MODELS}


@asynccontextmanager
async def serving(data_dir: Path, budget: int) -> AsyncIterator[Service]:
    settings = Settings(data_dir=data_dir, threads=2, kv_cache_memory=KV, memory_budget=budget)
    async with open_service(settings) as service:
        yield service


def ask(model: str, number: int) -> GenerationRequest:
    sampling = SamplingParams(seed=number, max_tokens=12, temperature=0.9, ignore_eos=True)
    return GenerationRequest(prompt=f"{number} The quick", model=model, raw=True, sampling=sampling)


async def answers(service: Service, models: tuple[str, ...], count: int) -> dict[tuple[str, int], tuple[int, ...]]:
    asked = [(model, number) for number in range(count) for model in models]
    done = await asyncio.gather(*(service.generate(ask(model, number), CALLER) for model, number in asked))
    assert all(one.finish_reason is FinishReason.LENGTH for one in done)
    return {key: one.token_ids for key, one in zip(asked, done, strict=True)}


async def test_two_models_at_once_keep_the_bytes_that_each_gives_alone(tmp_path: Path) -> None:
    imported(tmp_path)
    async with serving(tmp_path, sum(needs(tmp_path).values())) as service:
        alone = {}
        for model in MODELS[:2]:
            for number in range(8):
                alone[model, number] = (await service.generate(ask(model, number), CALLER)).token_ids
        together = await answers(service, MODELS[:2], 8)
        states = await service.list_models()
    assert together == alone
    assert {entry["name"] for entry in states if entry["loaded"]} == set(MODELS[:2])


async def test_each_model_may_have_a_lane_of_its_own(tmp_path: Path) -> None:
    imported(tmp_path)
    found: dict[str, tuple[int, ...]] = {}
    for lanes in ([], ["llama-gqa=int4"]):
        settings = Settings(data_dir=tmp_path, threads=1, kv_cache_memory=KV, precision="f32", model_precision=lanes)
        async with open_service(settings) as service:
            for model in MODELS[:2]:
                answer = await service.generate(ask(model, 1), CALLER)
                pin = (await service.records.get(str(answer.record.index)))["pin"]
                found[f"{model} {pin['arithmetic']}"] = answer.token_ids
            assert (await service.replay(str(answer.record.index), CALLER)).verdict is ReplayVerdict.MATCH
    assert found.keys() == {"guide f32-v1", "llama-gqa f32-v1", "llama-gqa int4-g32-v1"}
    assert found["llama-gqa f32-v1"] != found["llama-gqa int4-g32-v1"]


async def test_models_leave_and_come_back_under_load_and_no_request_fails(tmp_path: Path) -> None:
    """Two of three fit: within the budget at every moment, and what each answers is what it answered before."""
    imported(tmp_path)
    need = needs(tmp_path)
    budget = need["guide"] + max(need["llama-gqa"], need["qwen3"])
    most = 0
    async with serving(tmp_path, budget) as service:
        first = await answers(service, MODELS, 6)

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, sum(state["memory_bytes"] for state in service.models.states().values()))
                await asyncio.sleep(0.001)

        watching = asyncio.ensure_future(watch())
        rounds = await asyncio.gather(*(answers(service, MODELS[turn:] + MODELS[:turn], 6) for turn in range(3)))
        watching.cancel()
        assert all(one == first for one in rounds)
        replay = await service.replay((await service.records.list(limit=1))["records"][0]["id"], CALLER)
        text = service.metrics.render().decode()
    assert 0 < most <= budget
    assert replay.verdict is ReplayVerdict.MATCH
    assert all(f'vllm:generation_tokens_total{{engine="native",model_name="{model}"}}' in text for model in MODELS)


async def test_a_model_larger_than_the_budget_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    imported(tmp_path)
    need = needs(tmp_path)
    async with serving(tmp_path, need["guide"]) as service:
        large = max(MODELS[1:], key=need.__getitem__)
        if need[large] > need["guide"]:
            with pytest.raises(ModelTooLarge):
                await service.generate(ask(large, 1), CALLER)
        assert (await service.generate(ask("guide", 1), CALLER)).usage.completion_tokens == 12


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wide_copy(folder: Path, rows: int) -> Path:
    """A checkpoint with a vocabulary so large that its tables are most of it."""
    copy_of("llama-gqa", folder, {"vocab_size": rows})

    def widen(tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            dtype, (old, width), piece = tensors[name]
            tensors[name] = (dtype, [rows, width], (piece * (rows // old + 1))[: rows * width * 4])

    edit_tensors(folder, widen)
    return folder


async def test_unloading_gives_the_memory_back(tmp_path: Path) -> None:
    wide = wide_copy(tmp_path / "wide", 250_000)
    settings = Settings(data_dir=tmp_path / "data", threads=1, kv_cache_memory=KV, memory_budget=2 << 30)
    Catalog(settings.models_dir).import_folder(wide, "wide")
    pool = open_pool(settings)
    (await pool.acquire("guide")).release()  # so that what all models share is there
    before = resident_bytes()
    for _ in range(2):  # packed at first, then mapped from the packed file
        await pool.load("wide")
        loaded = resident_bytes()
        await pool.unload("wide")
        assert loaded - resident_bytes() > 60 << 20
        assert resident_bytes() - before < 16 << 20
    await pool.close()
