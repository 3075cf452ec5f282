"""Batches that cannot go on now: what they use up meanwhile, and whom they keep waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from minivault.api.batching import Batching
from minivault.api.line_tries import MOST_RECORDED
from minivault.api.turns import Turns
from minivault.batches.store import BatchStore
from minivault.batches.values import Batch, Line, Status
from minivault.errors import CheckpointCorrupt, LedgerUnavailable, MiniVaultError, Overloaded, VaultCorrupt
from minivault.service.admission import Line as Waiting
from tests.api.batch_server import CHAT, batching_of, chat, done, ended, lines, rows_of, server_of, started, uploaded
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


async def left_of(client: httpx2.AsyncClient, keys: Keyring, name: str) -> int:
    """Requests of the key's window."""
    gate = batching_of(client)._app.state.access
    left: int = await gate.limits.left(gate.caller_of_key(keys.ids[name], "local").quota.requests)
    return left


def waits_of(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which take no time."""
    waits: list[float] = []

    async def wait(_turns: Turns, seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(Turns, "wait", wait)
    return waits


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


async def test_a_line_whose_model_is_down_leaves_few_records_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = waits_of(monkeypatch)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.refuses = Overloaded("No upstream server can be reached.", retry_after=30)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(*[chat()] * 8))
        rows = await rows_of(client, batch["error_file_id"])
    assert batch["request_counts"] == {"total": 8, "completed": 0, "failed": 8}
    assert {row["response"]["body"]["error"]["code"] for row in rows} == {"overloaded"}
    assert len(bench.ledger.intents) == len(bench.ledger.outcomes) == 8 * MOST_RECORDED
    assert sorted(waits) == sorted([30, 60, 360, 2160] * 8)


async def test_a_model_that_is_up_again_answers_the_next_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.refuses = Overloaded("No upstream server can be reached.", retry_after=30)

    async def wait(_turns: Turns, _seconds: float) -> None:
        bench.engine.refuses = None

    monkeypatch.setattr(Turns, "wait", wait)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat()))
    assert batch["request_counts"]["completed"] == 1
    assert [intent.request_id for intent in bench.ledger.intents] == [f"{batch['id']}-0", f"{batch['id']}-0-r2"]


async def test_a_line_that_the_disk_does_not_give_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minivault.api.line_runner.UNREADABLE_SECONDS", 0.01)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    refused = 0
    real = BatchStore.line

    def line(store: BatchStore, batch_id: str, number: int) -> Line:
        nonlocal refused
        if number == 1 and refused < 5:
            refused += 1
            raise LedgerUnavailable("the disk fails")
        return real(store, batch_id, number)

    monkeypatch.setattr(BatchStore, "line", line)
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(chat(), chat()))
        await until(lambda: refused == 5 and len(bench.engine.requests) == 2)
        bench.engine.release()
        batch = await ended(client, batch_id)
    assert batch["request_counts"]["completed"] == 2
    assert len(bench.ledger.intents) == 2


async def test_tries_are_counted_over_restarts(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(chat()))
        await until(lambda: bench.engine.requests)
    for _ in range(2, MOST_RECORDED + 1):
        bench.engine.submitted.clear()
        async with server_of(bench, tmp_path):
            await bench.engine.submitted.wait()
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["error_file_id"])
    assert row["response"]["body"]["error"]["code"] == "too_many_tries"
    assert row["response"]["request_id"] == f"{batch_id}-0-r{MOST_RECORDED}"
    assert len(bench.ledger.intents) == MOST_RECORDED


async def test_lines_that_wait_for_a_live_request_use_up_none_of_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="60/hour", concurrent=1)
    waits = waits_of(monkeypatch)
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 0
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("admin"))
        live = asyncio.ensure_future(client.post("/generate", json={"prompt": "hi"}, headers=keys.headers("narrow")))
        await until(lambda: bench.engine.requests)
        await submitted(client, "batch_a", keys, "narrow", 8)
        await until(lambda: len(waits) > 200)
        assert await left_of(client, keys, "narrow") == 59
        bench.engine.release()
        assert (await live).status_code == 200
        batch = await ended(client, "batch_a")
        assert batch["request_counts"]["completed"] == 8
        assert await left_of(client, keys, "narrow") == 51
        again = await client.post("/generate", json={"prompt": "hi"}, headers=keys.headers("narrow"))
    assert again.status_code == 200


async def test_a_line_is_one_request_of_its_key_however_often_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keyring(tmp_path)
    keys.add("narrow", requests="60/hour")
    waits = waits_of(monkeypatch)
    bench = make_bench(says("Yes."), template=True)
    real = Waiting.enter
    full = Overloaded("The queue is full.", retry_after=1)

    def enter(line: Waiting, tokens: int, client: str) -> Any:
        if len(waits) < 40:
            raise full
        return real(line, tokens, client)

    monkeypatch.setattr(Waiting, "enter", enter)
    async with server_of(bench, tmp_path) as client:
        client.headers.update(keys.headers("admin"))
        await submitted(client, "batch_a", keys, "narrow", 3)
        batch = await ended(client, "batch_a")
        assert batch["request_counts"]["completed"] == 3
        assert await left_of(client, keys, "narrow") == 57
    assert len(bench.ledger.intents) == 3


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


@pytest.mark.parametrize(
    "error", [CheckpointCorrupt("its files changed"), VaultCorrupt("the vault does not hold together")]
)
async def test_what_does_not_pass_fails_the_line_at_once(tmp_path: Path, error: MiniVaultError) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.models.error = error
    async with server_of(bench, tmp_path) as client:
        async with asyncio.timeout(MOMENT):
            batch = await done(client, lines(*[chat()] * 9))
        rows = await rows_of(client, batch["error_file_id"])
    assert batch["request_counts"] == {"total": 9, "completed": 0, "failed": 9}
    assert {row["response"]["body"]["error"]["code"] for row in rows} == {error.code}
    assert bench.ledger.intents == []


def batch_places(batching: Batching) -> int:
    """Those that are free."""
    return batching._places._value
