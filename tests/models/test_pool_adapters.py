"""Adapters in the pool: held while they are used or waited for, and gone after their last use.."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minivault.errors import CheckpointCorrupt, ModelNotReady
from minivault.models.catalog import ModelEntry
from minivault.models.changes import Changes
from minivault.models.lease import Lease
from minivault.models.pool import ModelPool, PoolLimits
from minivault.models.pooled import PooledModel, Slot
from minivault.models.shelf import Shelf, Shelved
from tests.fakes import until
from tests.models.pool_bench import Clock, Hold, Loader, Model


class AdaptingLoader(Loader):
    """Every adapter takes 10 bytes more."""

    def adapter_need(self, entry: ModelEntry) -> int:
        return 10

    def adapt(self, entry: ModelEntry, base: PooledModel) -> PooledModel:
        self.loads.append(entry.name)
        return Model(entry.name, 10)


class AdaptersBench:
    def __init__(self, budget: int = 30) -> None:
        self.loader = AdaptingLoader()
        self.holds: dict[str, Hold] = {}
        self.fault: OSError | None = None
        self.pool = ModelPool(self, "a", self.loader, PoolLimits(budget), clock=Clock(), hold=self.hold)  # type: ignore[arg-type]

    def get(self, name: str) -> ModelEntry:
        return entry_of(name)

    def hold(self, folder: Path) -> Hold:
        if self.fault is not None and ":" in folder.name:
            raise self.fault
        self.holds[folder.name] = Hold()
        return self.holds[folder.name]


def entry_of(name: str) -> ModelEntry:
    return ModelEntry(name, Path(name), "llama", 1, 1, "sha256:0", False, None)


async def test_unloading_an_adapter_waits_for_those_who_use_it() -> None:
    bench = AdaptersBench()
    lease = await bench.pool.acquire("a:x")
    unloading = asyncio.ensure_future(bench.pool.unload("a:x"))
    await until(lambda: bench.pool.states()["a:x"]["state"] == "leaving")
    assert bench.pool.states()["a:x"]["memory_bytes"] == 10
    assert not bench.holds["a:x"].closed
    lease.release()
    assert await unloading
    assert bench.holds["a:x"].closed
    assert "a:x" not in bench.pool.states()
    assert bench.pool.states()["a"]["memory_bytes"] == 10
    assert not await bench.pool.unload("a:x")


async def test_who_asks_while_an_adapter_leaves_gets_it_loaded_again() -> None:
    bench = AdaptersBench()
    lease = await bench.pool.acquire("a:x")
    unloading = asyncio.ensure_future(bench.pool.unload("a:x"))
    await until(lambda: bench.pool.states()["a:x"]["state"] == "leaving")
    again = asyncio.ensure_future(bench.pool.acquire("a:x"))
    await asyncio.sleep(0)
    lease.release()
    assert await unloading
    (await again).release()
    assert bench.loader.loads == ["a", "a:x", "a:x"]


async def test_an_adapter_whose_unload_waits_too_long_leaves_later() -> None:
    bench = AdaptersBench()
    lease = await bench.pool.acquire("a:x")
    bench.pool.limits = replace(bench.pool.limits, patience=0.01)
    with pytest.raises(ModelNotReady):
        await bench.pool.unload("a:x")
    lease.release()
    assert "a:x" not in bench.pool.states()


async def test_adapters_leave_for_each_other_only_if_they_are_idle() -> None:
    bench = AdaptersBench(budget=20)
    (await bench.pool.acquire("a:x")).release()
    lease = await bench.pool.acquire("a:y")
    assert bench.loader.loads == ["a", "a:x", "a:y"]
    assert "a:x" not in bench.pool.states()
    with pytest.raises(ModelNotReady):
        await bench.pool.acquire("a:x")
    lease.release()


async def test_an_adapter_just_loaded_is_not_idle_before_who_waits_has_it() -> None:
    loader, idle, holds = AdaptingLoader(), list[Shelved | None](), list[Hold]()

    async def room(_slot: Slot, _need: int) -> None:
        pass

    def hold(_folder: Path) -> Hold:
        holds.append(Hold())
        return holds[-1]

    async def noted(work: Coroutine[Any, Any, None]) -> None:
        await work
        idle.append(shelf.idle())  # who waits for the load is not told of its end yet

    shelf = Shelf(loader, entry_of, room, hold, lambda work: asyncio.create_task(noted(work)), Changes())
    slot = Slot(entry_of("a"), 10, False, 0.0, model=Model("a", 10))
    base = Lease(lambda _slot, _adapter: None, slot, Model("a", 10))
    item = await shelf.get("a:x", slot, base)
    assert idle == [None]
    assert shelf.idle() is item
    assert slot.leases == 1


@pytest.mark.parametrize(
    ("fault", "told"), [(BlockingIOError(), ModelNotReady), (FileNotFoundError(), CheckpointCorrupt)]
)
async def test_an_adapter_that_is_being_changed_may_be_asked_for_again_and_one_that_is_gone_not(
    fault: OSError, told: type[Exception]
) -> None:
    bench = AdaptersBench()
    bench.fault = fault
    with pytest.raises(told):
        await bench.pool.acquire("a:x")
    assert bench.pool.states()["a"]["memory_bytes"] == 10
