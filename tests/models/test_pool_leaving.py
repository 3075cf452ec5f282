"""The pool: when models leave, at the end of their time, when asked to, when they broke, and when it closes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from minivault.errors import CheckpointCorrupt, Draining, MiniVaultError, ModelNotReady, UnknownModel
from minivault.models.pool import ModelPool, PoolLimits
from tests.fakes import until
from tests.models.pool_bench import Bench, Loader, Names, is_state


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


async def test_a_request_may_say_how_long_a_model_of_the_start_stays_and_the_next_that_says_nothing_keeps_it() -> None:
    bench = Bench(keep_alive=60)
    stays = []
    for asked in (2.0, None):
        await bench.use("a", asked)
        stays.append(bench.pool.states()["a"]["expires_in"])
    assert stays == [2.0, None]


async def test_a_model_of_the_start_leaves_after_a_request_for_which_it_shall_not_stay() -> None:
    bench = Bench(keep_alive=60)
    await bench.use("a", 0)
    await until(is_state(bench, "a", "unloaded"))
    assert bench.loader.made[0].closed


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


async def test_an_unload_holds_though_a_load_that_wanted_the_room_is_given_up() -> None:
    bench = Bench(budget=25)
    lease = await bench.pool.acquire("a")
    waiting = asyncio.ensure_future(bench.pool.acquire("c"))
    await until(is_state(bench, "a", "leaving"))
    unloading = asyncio.ensure_future(bench.pool.unload("a"))
    await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(10):  # the end of the load that is given up
        await asyncio.sleep(0)
    lease.release()
    assert await asyncio.wait_for(unloading, 10)
    assert bench.state("a") == "unloaded"


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
