"""The pool: what is loaded when, who waits for it, and who leaves to make room. Over loaders with a script."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from minivault.errors import CheckpointCorrupt, ModelNotReady, ModelTooLarge, Overloaded
from minivault.models.residents import RETRY_AFTER
from tests.fakes import until
from tests.models.pool_bench import NAMES, Bench, is_state


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


async def test_a_load_that_panics_is_told_and_lets_go_and_is_tried_again_after_a_while() -> None:
    bench = Bench()
    bench.loader.panics = ["b"]
    with pytest.raises(ModelNotReady, match="could not be loaded"):
        await asyncio.wait_for(bench.pool.acquire("b"), 5)
    assert (bench.state("b"), [hold.closed for hold in bench.holds]) == ("failed", [True])
    bench.clock.now += RETRY_AFTER
    await bench.use("b")
    assert bench.state("b") == "loaded"


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
