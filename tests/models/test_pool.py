"""The pool: what is loaded when, who waits, who leaves, and what is told of it. Over loaders with a script."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minivault.errors import (
    CheckpointCorrupt,
    Draining,
    MiniVaultError,
    ModelNotReady,
    ModelTooLarge,
    Overloaded,
    UnknownModel,
)
from minivault.models.catalog import ModelEntry
from minivault.models.pool import ModelPool, PoolLimits
from minivault.models.pooled import PooledModel, Report
from minivault.models.residents import RETRY_AFTER
from tests.fakes import until

NAMES = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    kind = "generation"

    def __init__(self, name: str, memory_bytes: int) -> None:
        self.name = name
        self.memory_bytes = memory_bytes
        self.closed = False
        self.broken = False

    async def close(self) -> None:
        self.closed = True


class Loader:
    """Every model needs 10 bytes. ``held`` names wait for :meth:`let`; ``faults`` names fail, once each time listed."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.held: set[str] = set()
        self.faults: list[str] = []
        self.made: list[Model] = []
        self._go = threading.Event()

    def need(self, entry: ModelEntry) -> int:
        return 10 if entry.name != "c" else 25

    def load(self, entry: ModelEntry, report: Report) -> PooledModel:
        self.loads.append(entry.name)
        report("packing", 3, 9)
        if entry.name in self.held:
            self._go.wait(30)
        if entry.name in self.faults:
            self.faults.remove(entry.name)
            raise CheckpointCorrupt("the file is cut")
        model = Model(entry.name, self.need(entry))
        self.made.append(model)
        return model

    def let(self) -> None:
        self._go.set()


class Names:
    """A catalog of three names."""

    def get(self, name: str) -> ModelEntry:
        if name not in NAMES:
            raise UnknownModel("There is no model of this name here", param="model")
        return ModelEntry(name, Path(name), "llama", 1, 1, "sha256:0", False, None)

    def list(self) -> list[ModelEntry]:
        return [self.get(name) for name in NAMES]


class Hold:
    closed = False

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, budget: int = 20, **limits: float) -> None:
        self.clock, self.loader = Clock(), Loader()
        self.pool = ModelPool(
            Names(),  # type: ignore[arg-type]  # the part of a catalog that the pool uses
            "a",
            self.loader,
            PoolLimits(budget, **limits),  # type: ignore[arg-type]
            clock=self.clock,
            hold=self.hold,
        )
        self.holds: list[Hold] = []
        self.busy: set[str] = set()

    def hold(self, folder: Path) -> Hold:
        if folder.name in self.busy:
            raise BlockingIOError
        self.holds.append(Hold())
        return self.holds[-1]

    def state(self, name: str) -> str:
        state: str = self.pool.states().get(name, {"state": "unloaded"})["state"]
        return state

    async def use(self, name: str, keep_alive: float | None = None) -> None:
        (await self.pool.acquire(name, keep_alive)).release()


def is_state(bench: Bench, name: str, state: str) -> Callable[[], bool]:
    return lambda: bench.state(name) == state


async def test_the_files_of_a_model_are_held_as_long_as_it_is_loaded_and_no_longer() -> None:
    bench = Bench()
    await bench.use("b")
    assert [hold.closed for hold in bench.holds] == [False]
    await bench.pool.unload("b")
    bench.loader.faults = ["a"]
    with pytest.raises(CheckpointCorrupt):
        await bench.use("a")
    assert [hold.closed for hold in bench.holds] == [True, True]


async def test_a_model_that_is_being_changed_is_not_loaded() -> None:
    bench = Bench()
    bench.busy = {"b"}
    with pytest.raises(ModelNotReady, match="being changed"):
        await bench.use("b")


async def test_many_who_ask_for_one_model_load_it_once() -> None:
    bench = Bench()
    leases = await asyncio.gather(*(bench.pool.acquire("b") for _ in range(20)))
    assert bench.loader.loads == ["b"]
    assert len({id(lease.model) for lease in leases}) == 1
    assert bench.pool.states()["b"]["in_use"] == 20
    for lease in leases:
        lease.release()
        lease.release()
    assert bench.pool.states()["b"]["in_use"] == 0


async def test_models_stay_side_by_side_within_the_budget() -> None:
    bench = Bench()
    await bench.use("a")
    await bench.use("b")
    assert {bench.state("a"), bench.state("b")} == {"loaded"}


async def test_the_one_idle_for_longest_leaves_for_another() -> None:
    bench = Bench(budget=35)
    await bench.use("a")
    bench.clock.now += 1
    await bench.use("b")
    bench.clock.now += 1
    await bench.use("a")
    await bench.use("c")
    assert [bench.state(name) for name in NAMES] == ["loaded", "unloaded", "loaded"]
    assert [model.closed for model in bench.loader.made] == [False, True, False]


async def test_a_model_in_use_stays_until_its_last_lease_and_then_makes_room() -> None:
    bench = Bench(budget=25)
    lease = await bench.pool.acquire("a")
    more = lease.again()
    waiting = asyncio.ensure_future(bench.pool.acquire("c"))
    await until(is_state(bench, "a", "leaving"))
    lease.release()
    await asyncio.sleep(0)
    assert not bench.loader.made[0].closed
    more.release()
    (await waiting).release()
    assert [bench.state(name) for name in NAMES] == ["unloaded", "unloaded", "loaded"]


async def test_two_that_do_not_fit_together_serve_all_who_ask_in_turn() -> None:
    bench = Bench(budget=25)

    async def hold(name: str) -> None:
        async with bench.pool.lease(name):
            await asyncio.sleep(0)

    await asyncio.gather(*(hold(name) for _ in range(10) for name in ("a", "c")))
    assert set(bench.loader.loads) == {"a", "c"}
    assert len(bench.loader.loads) <= 4


async def test_a_model_that_can_never_fit_is_refused_with_the_figures() -> None:
    bench = Bench()
    with pytest.raises(ModelTooLarge, match="needs 25 B of memory, and memory_budget allows 20 B"):
        await bench.pool.acquire("c")
    assert bench.loader.loads == []


async def test_a_failed_load_is_told_to_all_who_wait_and_hurts_no_other() -> None:
    bench = Bench()
    bench.loader.faults = ["b"]
    results = await asyncio.gather(*(bench.pool.acquire(name) for name in ("b", "b", "a")), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["CheckpointCorrupt", "CheckpointCorrupt", "Lease"]
    assert bench.pool.states()["b"]["error"] == "the file is cut"


async def test_a_failed_load_is_tried_again_after_a_while_and_not_before() -> None:
    bench = Bench()
    bench.loader.faults = ["b"]
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt):
            await bench.pool.acquire("b")
    assert bench.loader.loads == ["b"]
    bench.clock.now += RETRY_AFTER
    await bench.use("b")
    assert (bench.loader.loads, bench.state("b")) == (["b", "b"], "loaded")


async def test_the_wait_for_a_load_has_an_end_and_the_load_goes_on() -> None:
    bench = Bench()
    bench.loader.held = {"b"}
    first = asyncio.ensure_future(bench.pool.acquire("b"))
    await until(is_state(bench, "b", "loading"))
    bench.pool.limits = replace(bench.pool.limits, patience=0.01)
    with pytest.raises(ModelNotReady):
        await bench.pool.acquire("b")
    assert bench.state("b") == "loading"
    bench.loader.let()
    (await first).release()
    assert bench.loader.loads == ["b"]


async def test_only_so_many_may_wait_for_loads() -> None:
    bench = Bench(max_waiting=1)
    bench.loader.held = {"b"}
    first = asyncio.ensure_future(bench.pool.acquire("b"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await bench.pool.acquire("b")
    bench.loader.let()
    (await first).release()


async def test_a_load_that_waits_for_room_is_given_up_when_nobody_waits_for_it() -> None:
    bench = Bench(budget=25)
    lease = await bench.pool.acquire("a")
    waiting = asyncio.ensure_future(bench.pool.acquire("c"))
    await until(is_state(bench, "a", "leaving"))
    waiting.cancel()
    await until(is_state(bench, "a", "loaded"))
    assert (bench.state("c"), bench.loader.loads) == ("unloaded", ["a"])
    lease.release()


async def test_a_model_that_arrives_after_its_waiter_has_gone_leaves_in_its_time() -> None:
    bench = Bench(keep_alive=0)
    bench.loader.held = {"b"}
    waiting = asyncio.ensure_future(bench.pool.acquire("b"))
    await until(is_state(bench, "b", "loading"))
    waiting.cancel()
    bench.loader.let()
    await until(is_state(bench, "b", "unloaded"))
    assert bench.loader.made[0].closed


async def test_an_idle_model_leaves_when_its_time_is_over() -> None:
    bench = Bench(keep_alive=60)
    await bench.use("b")
    assert bench.pool.states()["b"]["expires_in"] == 60
    bench.clock.now += 59
    bench.pool.expire()
    assert bench.state("b") == "loaded"
    bench.clock.now += 1
    bench.pool.expire()
    await until(is_state(bench, "b", "unloaded"))
    assert bench.loader.made[0].closed


async def test_a_model_in_use_does_not_expire() -> None:
    bench = Bench(keep_alive=60)
    lease = await bench.pool.acquire("b")
    bench.clock.now += 600
    bench.pool.expire()
    assert bench.state("b") == "loaded"
    lease.release()
    assert bench.pool.states()["b"]["expires_in"] == 60


@pytest.mark.parametrize(("asked", "expires_in"), [(5.0, 5.0), (-1.0, None), (None, 60.0)])
async def test_a_request_may_say_how_long_its_model_stays(asked: float | None, expires_in: float | None) -> None:
    bench = Bench(keep_alive=60)
    await bench.use("b", asked)
    assert bench.pool.states()["b"]["expires_in"] == expires_in


async def test_a_model_that_shall_not_stay_leaves_at_once_after_its_use() -> None:
    bench = Bench()
    await bench.use("b", 0)
    await until(is_state(bench, "b", "unloaded"))
    assert bench.loader.made[0].closed


async def test_a_keep_alive_given_with_a_load_is_the_models_own() -> None:
    bench = Bench(keep_alive=60)
    await bench.pool.load("b", 7)
    await bench.use("b")
    assert bench.pool.states()["b"]["expires_in"] == 7


async def test_what_was_asked_for_at_the_start_is_loaded_then_and_stays() -> None:
    bench = Bench(keep_alive=60)
    bench.pool.start()
    assert bench.pool.not_ready_because() == "The model is still loading."
    await bench.pool.ready()
    assert bench.pool.not_ready_because() is None
    assert bench.pool.states()["a"]["expires_in"] is None


async def test_no_request_has_a_model_of_the_start_leave() -> None:
    bench = Bench(keep_alive=60)
    bench.pool.start()
    await bench.pool.ready()
    await bench.use("a", 0)
    assert (bench.state("a"), bench.pool.states()["a"]["expires_in"]) == ("loaded", None)


async def test_a_load_may_give_a_model_of_the_start_a_time_of_its_own() -> None:
    bench = Bench(keep_alive=60)
    bench.pool.start()
    await bench.pool.ready()
    await bench.pool.load("a", 7)
    assert bench.pool.states()["a"]["expires_in"] == 7


async def test_a_default_model_that_fails_to_load_is_why_the_server_is_not_ready() -> None:
    bench = Bench()
    bench.loader.faults = ["a"]
    bench.pool.start()
    with pytest.raises(CheckpointCorrupt):
        await bench.pool.ready()
    assert bench.pool.not_ready_because() == "the file is cut"


async def test_an_unknown_model_at_the_start_is_refused() -> None:
    with pytest.raises(UnknownModel):
        ModelPool(Names(), "a", Loader(), PoolLimits(20), preload=["nope"])  # type: ignore[arg-type]


async def test_progress_is_shown_while_it_loads() -> None:
    bench = Bench()
    bench.loader.held = {"b"}
    waiting = asyncio.ensure_future(bench.pool.acquire("b"))
    await until(lambda: bench.pool.states().get("b", {}).get("progress"))
    assert bench.pool.states()["b"]["progress"] == {"phase": "packing", "done_bytes": 3, "total_bytes": 9}
    bench.loader.let()
    (await waiting).release()
    assert bench.pool.states()["b"]["progress"] is None


async def test_unloading_waits_for_those_who_use_it() -> None:
    bench = Bench()
    lease = await bench.pool.acquire("b")
    unloading = asyncio.ensure_future(bench.pool.unload("b"))
    await until(is_state(bench, "b", "leaving"))
    lease.release()
    assert await unloading
    assert not await bench.pool.unload("b")


async def test_who_asks_while_a_model_leaves_gets_it_loaded_again() -> None:
    bench = Bench()
    lease = await bench.pool.acquire("b")
    unloading = asyncio.ensure_future(bench.pool.unload("b"))
    await until(is_state(bench, "b", "leaving"))
    again = asyncio.ensure_future(bench.pool.acquire("b"))
    lease.release()
    await unloading
    (await again).release()
    assert bench.loader.loads == ["b", "b"]


async def test_an_unload_that_waits_too_long_leaves_the_model_to_leave_later() -> None:
    bench = Bench()
    lease = await bench.pool.acquire("b")
    bench.pool.limits = replace(bench.pool.limits, patience=0.01)
    with pytest.raises(ModelNotReady):
        await bench.pool.unload("b")
    lease.release()
    await until(is_state(bench, "b", "unloaded"))


async def test_a_model_that_broke_is_loaded_anew_for_the_next_who_asks() -> None:
    bench = Bench()
    leases = [await bench.pool.acquire("b") for _ in range(2)]
    bench.loader.made[0].broken = True
    leases[0].release()
    assert bench.state("b") == "loaded"
    leases[1].release()
    await until(is_state(bench, "b", "unloaded"))
    assert bench.loader.made[0].closed
    await bench.use("b")
    assert bench.loader.loads == ["b", "b"]


async def test_a_default_model_that_broke_comes_back_by_itself() -> None:
    bench = Bench()
    bench.pool.start()
    lease = await bench.pool.acquire("a")
    bench.loader.made[0].broken = True
    lease.release()
    await until(bench.pool.not_ready_because)
    await until(lambda: bench.loader.loads == ["a", "a"] and bench.state("a") == "loaded")
    assert bench.pool.not_ready_because() is None


async def test_closing_ends_everything_even_what_waits_or_is_held() -> None:
    bench = Bench(budget=25)
    await bench.pool.acquire("a")
    waiting = asyncio.ensure_future(bench.pool.acquire("c"))
    await until(is_state(bench, "a", "leaving"))
    await bench.pool.close()
    with pytest.raises(MiniVaultError):
        await waiting
    assert bench.loader.made[0].closed
    with pytest.raises(Draining):
        await bench.pool.acquire("b")


async def test_at_the_end_nobody_waits_for_a_load_and_what_is_loaded_still_serves() -> None:
    bench = Bench()
    bench.loader.held = {"b"}
    await bench.use("a")
    waiting = asyncio.ensure_future(bench.pool.acquire("b"))
    await until(is_state(bench, "b", "loading"))
    bench.pool.drain()
    with pytest.raises(Draining):
        await waiting
    await bench.use("a")
    bench.loader.let()
