"""Batches that cannot go on now: what they use up meanwhile, and whom they keep waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from minivault.api.batching import Batching
from minivault.api.turns import Turns
from minivault.batches.values import Batch, Status
from tests.api.batch_server import CHAT, batching_of, chat, ended, lines, server_of, started, uploaded
from tests.api.keyed import Keyring, keyring
from tests.fakes import make_bench, says, until

MOMENT = 5.0
"""Seconds, far less than a wait between two tries."""


async def submitted(client: httpx2.AsyncClient, batch_id: str, keys: Keyring, name: str, count: int) -> Batch:
    """A batch of the key ``name``, asked for by who needs no request of it."""
    batching = batching_of(client)
    file_id = await uploaded(client, lines(*[chat()] * count))
    batch = Batch(batch_id, keys.ids[name], "local", CHAT, file_id, batching.now())
    await batching.submit(batch, 1)
    return batch


async def waiting(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """So many lines wait between two tries."""
    seen = 0
    real = Turns.wait

    async def wait(turns: Turns, seconds: float) -> None:
        nonlocal seen
        seen += 1
        await real(turns, seconds)

    monkeypatch.setattr(Turns, "wait", wait)
    await until(lambda: seen >= count)


async def test_a_batch_that_waits_lets_the_batches_of_others_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="1/day")
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path, batch_concurrency=2) as client:
        client.headers.update(keys.headers("admin"))
        await submitted(client, "batch_a", keys, "narrow", 20)
        await waiting(client, monkeypatch, 2)
        await submitted(client, "batch_b", keys, "other", 3)
        async with asyncio.timeout(MOMENT):
            batch = await ended(client, "batch_b")
        assert batch["request_counts"]["completed"] == 3
        first = (await client.get("/v1/batches/batch_a")).json()
    assert (first["status"], first["request_counts"]) == ("in_progress", {"total": 20, "completed": 1, "failed": 0})


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_batch_that_waits_is_cancelled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="1/day")
    async with server_of(make_bench(says("Yes."), template=True), tmp_path, batch_concurrency=concurrency) as client:
        client.headers.update(keys.headers("admin"))
        await submitted(client, "batch_a", keys, "narrow", 3)
        await waiting(client, monkeypatch, concurrency)
        await client.post("/v1/batches/batch_a/cancel")
        async with asyncio.timeout(MOMENT):
            batch = await ended(client, "batch_a")
        assert batch_places(batching_of(client)) == concurrency
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)


async def test_a_batch_that_waits_for_the_places_of_another_is_cancelled_at_once(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path, batch_concurrency=1) as client:
        first = await started(client, lines(chat()))
        await until(lambda: bench.engine.requests)
        second = await started(client, lines(chat()))
        await until(lambda: second in batching_of(client)._turns)
        await client.post(f"/v1/batches/{second}/cancel")
        async with asyncio.timeout(MOMENT):
            assert (await ended(client, second))["status"] == "cancelled"
        bench.engine.release()
        assert (await ended(client, first))["status"] == "completed"
        await until(lambda: batch_places(batching_of(client)) == 1)


async def test_a_server_that_closes_waits_for_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="1/day")
    async with server_of(make_bench(says("Yes."), template=True), tmp_path) as client:
        client.headers.update(keys.headers("admin"))
        batch = await submitted(client, "batch_a", keys, "narrow", 9)
        await waiting(client, monkeypatch, 8)
        batching = batching_of(client)
        batching.pause()
        async with asyncio.timeout(MOMENT):
            await until(lambda: not batching._running)
        store = await batching.store()
        assert store.batch(batch.id).status is Status.IN_PROGRESS


def batch_places(batching: Batching) -> int:
    """Those that are free."""
    return batching._places._value
