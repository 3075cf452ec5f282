"""Batches over what breaks: nothing is lost or done twice over a restart, a crash or a disk that fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minivault.batches.store import BatchStore
from minivault.batches.values import Status
from minivault.errors import LedgerUnavailable
from minivault.vault.record import Outcome
from tests.api.batch_crash import crashed_in
from tests.api.batch_server import CHAT, batching_of, chat, done, ended, lines, rows_of, server_of, started
from tests.fakes import breaks_after, make_bench, says, until


async def test_a_batch_goes_on_after_a_restart_and_no_line_is_run_twice(tmp_path: Path) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.engine.hold_after = 1
    async with server_of(bench, tmp_path, batch_concurrency=2) as client:
        batch_id = await started(client, lines(*[chat(str(number)) for number in range(5)]))
        await until(lambda: len(bench.engine.requests) == 2)
    # That server is gone with two lines under way; both are on record as cancelled.
    assert {outcome.finish_reason for outcome in bench.ledger.outcomes} == {"cancelled"}
    bench.engine.hold_after = None
    async with server_of(bench, tmp_path, batch_concurrency=2) as client:
        batch = await ended(client, batch_id)
        rows = await rows_of(client, batch["output_file_id"])
    assert [row["custom_id"] for row in rows] == [f"c{number}" for number in range(5)]
    whole = [bench.ledger.intent_of(one).request_id for one in bench.ledger.outcomes if one.finish_reason == "stop"]
    assert sorted(whole) == sorted([f"{batch_id}-0-r2", f"{batch_id}-1-r2", *(f"{batch_id}-{n}" for n in (2, 3, 4))])


BODIES = [
    (CHAT, chat(n=2)),
    (CHAT, chat(logprobs=True, top_logprobs=1)),
    (CHAT, chat(store=False)),
    ("/v1/completions", {"model": "fake", "prompt": ["hi", "ho"], "echo": True}),
    ("/v1/completions", {"model": "fake", "prompt": "hi", "logprobs": 1}),
    ("/v1/responses", {"model": "fake", "input": "hi", "store": False}),
]


@pytest.mark.parametrize(("endpoint", "body"), BODIES)
async def test_a_line_that_was_recorded_before_the_crash_is_not_run_again_and_answered_as_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, body: dict[str, Any]
) -> None:
    bench = make_bench(says("Yes.", logprobs=True), template=True)
    batch_id, [(draft,)] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", endpoint, body)
    calls = len(bench.ledger.intents)
    assert {outcome.finish_reason for outcome in bench.ledger.outcomes} == {"stop"}
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        content = (await client.get(f"/v1/files/{batch['output_file_id']}/content")).text
    assert len(bench.ledger.intents) == calls == len(bench.ledger.outcomes)
    assert content == draft + "\n"


@pytest.mark.parametrize(("endpoint", "body"), BODIES)
async def test_a_line_that_was_not_recorded_before_the_crash_is_run_again_and_its_first_try_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, body: dict[str, Any]
) -> None:
    bench = make_bench(says("Yes.", logprobs=True), template=True)
    batch_id, drafts = await crashed_in(tmp_path, monkeypatch, bench, "draft_line", endpoint, body)
    calls = len(bench.ledger.intents)
    assert drafts == []
    assert {(one.finish_reason, one.response_text) for one in bench.ledger.outcomes} == {("cancelled", "")}
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert next(intent.request_id for intent in bench.ledger.intents[calls:]) == f"{batch_id}-0-r2"
    whole = [outcome for outcome in bench.ledger.outcomes if outcome.finish_reason == "stop"]
    assert len(whole) == calls


async def test_a_draft_whose_call_ended_otherwise_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    [outcome] = bench.ledger.outcomes
    bench.ledger.outcomes[:] = [replace(outcome, finish_reason="interrupted", response_text="")]
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["request_id"] == f"{batch_id}-0-r2"


async def test_an_engine_that_broke_is_recorded_once_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(breaks_after("Yes"), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["failed"]


async def test_a_draft_of_a_batch_that_was_cancelled_counts_if_it_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(says("Yes."), template=True)
    batch_id, [_] = await crashed_in(tmp_path, monkeypatch, bench, "release_draft", CHAT, chat())
    store = BatchStore.open(tmp_path / "batches.db")
    store.step(batch_id, Status.CANCELLING, 9)
    store.close()
    async with server_of(bench, tmp_path) as client:
        batch = await ended(client, batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 1)


async def test_an_outcome_that_the_vault_is_not_sure_of_is_looked_up_before_the_line_is_run_again(
    tmp_path: Path,
) -> None:
    bench = make_bench(says("Yes."), template=True)
    bench.ledger.faults = ["outcome"]
    async with server_of(bench, tmp_path) as client:
        batch_id = await started(client, lines(chat()))
        await until(lambda: bench.ledger.intents and not bench.ledger.faults)
        # As the ledger ends a call by itself whose outcome it could not write.
        bench.ledger.append_outcome(Outcome(0, "failed", "", (), 0, 0, {"total_ns": 0}, "the record was lost"))
        batch = await ended(client, batch_id)
        [row] = await rows_of(client, batch["output_file_id"])
    assert row["response"]["request_id"] == f"{batch_id}-0-r2"
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["failed", "stop"]


@pytest.mark.parametrize("deed", ["line", "draft_line", "release_draft", "begin", "end"])
async def test_a_batch_waits_where_the_disk_does_not_let_it(
    tmp_path: Path, deed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(BatchStore, deed)
    failures = [LedgerUnavailable("the disk is full", retry_after=0) for _ in range(2)]

    def unsure(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(BatchStore, deed, unsure)
    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        batch = await done(client, lines(chat()))
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 1)
    assert len(bench.ledger.intents) == 1


async def test_a_batch_whose_task_failed_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("a fault of ours")

    bench = make_bench(says("Yes."), template=True)
    async with server_of(bench, tmp_path) as client:
        monkeypatch.setattr(BatchStore, "line", fails)
        batch_id = await started(client, lines(chat()))
        await until(lambda: not batching_of(client)._running)
        assert (await client.post(f"/v1/batches/{batch_id}/cancel")).json()["status"] == "cancelling"
        assert (await ended(client, batch_id))["status"] == "cancelled"
