"""The engine begins while an intent is on its way to the disk: nothing is shown too soon, nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from minivault.engine.engine import TokenStep
from minivault.errors import DeadlineExceeded, Draining, EngineFailed, LedgerUnavailable
from minivault.generation import FinishReason
from minivault.service import Service, ServiceLimits
from minivault.service.choices import spread
from minivault.service.walk import Generation
from minivault.vault.reader import Reader
from tests.fakes import Bench, FakeModel, FakeModels, ScriptedEngine, make_bench, says, until
from tests.service.asking import CALLER, ask
from tests.vault.samples import open_ledger
from tests.vault.scripted import Held, Script, eventually


async def held_opening(bench: Bench) -> tuple[Bench, asyncio.Task[Generation]]:
    """A call whose intent is on its way to the disk."""
    bench.ledger.hold = True
    opening = asyncio.create_task(bench.service.open(ask(stream=True), CALLER))
    await until(lambda: bench.ledger.intents)
    await asyncio.sleep(0)
    assert not opening.done()
    return bench, opening


def assert_nothing_left(bench: Bench) -> None:
    assert (bench.models.leases, bench.service.open_calls) == (0, 0)
    assert all(stream.cancelled for stream in bench.engine.streams)


async def test_nothing_is_shown_before_the_intent_is_durable_but_the_engine_works_meanwhile() -> None:
    bench, opening = await held_opening(make_bench())
    assert len(bench.engine.requests) == 1
    bench.ledger.release()
    generation = await opening
    assert (await generation.result()).response
    assert len(bench.engine.requests) == 1


async def test_what_ran_before_an_intent_that_never_became_durable_is_ended_and_not_shown() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=1, max_waiting=0))
    bench, opening = await held_opening(bench)
    bench.ledger.break_held()
    with pytest.raises(LedgerUnavailable):
        await opening
    assert bench.engine.streams[0].cancelled
    assert (bench.ledger.outcomes, bench.models.leases) == ([], 0)
    assert (await bench.service.generate(ask(), CALLER)).response


async def test_a_caller_who_leaves_before_the_intent_is_durable_stops_the_engine_and_is_cancelled() -> None:
    bench, opening = await held_opening(make_bench())
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert bench.engine.streams[0].cancelled
    bench.ledger.release()
    await bench.service.drain(60)
    assert bench.outcome.finish_reason == "cancelled"


async def test_nothing_runs_while_the_vault_cannot_be_written() -> None:
    bench = make_bench()
    bench.ledger.writable = False
    bench, opening = await held_opening(bench)
    assert bench.engine.requests == []
    bench.ledger.release()
    assert (await (await opening).result()).response


async def test_a_server_behind_is_asked_nothing_before_the_intent_is_durable() -> None:
    bench = make_bench()
    bench.engine.info = replace(bench.engine.info, speaks_text=True)
    bench, opening = await held_opening(bench)
    assert bench.engine.requests == []
    bench.ledger.release()
    (await opening).close()
    assert len(bench.engine.requests) == 1


async def test_an_engine_that_refuses_before_the_intent_is_durable_is_on_record() -> None:
    bench = make_bench()
    bench.engine.refuses = EngineFailed("it takes no work")
    bench, opening = await held_opening(bench)
    bench.ledger.release()
    with pytest.raises(EngineFailed, match="no work"):
        await opening
    assert (bench.outcome.finish_reason, bench.outcome.error) == ("failed", "it takes no work")


async def test_the_pace_counts_from_when_a_token_was_made_not_from_when_its_intent_was_durable() -> None:
    now = [5_000]
    made = (TokenStep((97, 98), made_ns=8_000), TokenStep((), finish_reason=FinishReason.STOP))
    bench = make_bench(lambda request: made, now_ns=lambda: now[0])
    bench, opening = await held_opening(bench)
    now[0] = 20_000
    bench.ledger.release()
    await (await opening).result()
    assert bench.outcome.timings == {"queue_ns": 0, "first_token_ns": 15_000, "decode_ns": 12_000, "total_ns": 15_000}


async def test_a_deadline_that_passes_before_the_intent_is_durable_stops_the_engine_and_is_told_after() -> None:
    bench, opening = await held_opening(make_bench(says("abc"), limits=ServiceLimits(request_timeout=0.02)))
    await until(lambda: bench.engine.streams[0].cancelled)
    bench.ledger.release()
    with pytest.raises(DeadlineExceeded):
        await (await opening).result()
    assert bench.outcome.finish_reason == "failed"
    assert_nothing_left(bench)


@pytest.mark.parametrize("late", [False, True])
async def test_a_drain_ends_what_becomes_durable_meanwhile_or_after(late: bool) -> None:
    bench, opening = await held_opening(make_bench(says("abc"), limits=ServiceLimits(abort_grace=0 if late else 60)))
    draining = asyncio.create_task(bench.service.drain(0))
    await until(lambda: draining.done() if late else bench.service.not_ready_because())
    assert draining.done() is late
    bench.ledger.release()
    with pytest.raises(Draining):
        await (await opening).result()
    await draining
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("failed", "")
    assert_nothing_left(bench)


async def test_a_server_behind_is_not_asked_for_what_a_drain_ended_before_its_intent_was_durable() -> None:
    bench = make_bench(limits=ServiceLimits(abort_grace=60))
    bench.engine.info = replace(bench.engine.info, speaks_text=True)
    bench, opening = await held_opening(bench)
    draining = asyncio.create_task(bench.service.drain(0))
    await until(bench.service.not_ready_because)
    bench.ledger.release()
    with pytest.raises(Draining):
        await opening
    await draining
    assert (bench.engine.requests, bench.outcome.finish_reason) == ([], "failed")
    assert_nothing_left(bench)


async def test_choices_of_which_one_is_not_recorded_all_end() -> None:
    bench = make_bench()
    bench.ledger.hold = True
    opening = asyncio.create_task(bench.service.open_all(spread(replace(ask(), request_id="r"), 3), CALLER))
    await until(lambda: len(bench.ledger.intents) == 3)
    await until(lambda: len(bench.engine.requests) == 3)
    bench.ledger.release(1)
    bench.ledger.break_held()
    with pytest.raises(LedgerUnavailable):
        await opening
    await bench.service.drain(60)
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["cancelled"]
    assert_nothing_left(bench)


@pytest.mark.parametrize("turns", range(12))
async def test_a_caller_who_leaves_at_any_turn_after_has_one_outcome(turns: int) -> None:
    bench, opening = await held_opening(make_bench(says("abcdef")))
    bench.ledger.release()
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    opened = await asyncio.gather(opening, return_exceptions=True)
    for one in opened:
        if isinstance(one, Generation):
            one.close()
    await bench.service.drain(60)
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["cancelled"]
    assert_nothing_left(bench)


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_intent_that_lands_after_its_deadline_is_a_failed_call_that_nobody_saw(
    tmp_path: Path, leaves: bool
) -> None:
    held = Held()
    ledger = open_ledger(tmp_path, open_writer=Script(held).open, receipt_deadline=0.3, clock=time.time_ns)
    engine, reader = ScriptedEngine(says("abc")), Reader.open(tmp_path / "vault.db")
    models = FakeModels(FakeModel(engine))
    asking = asyncio.create_task(Service(models, ledger, reader).generate(ask(), CALLER))
    await until(lambda: engine.streams)
    if leaves:
        asking.cancel()
    with pytest.raises((LedgerUnavailable, asyncio.CancelledError)):
        await asking
    await until(lambda: models.leases == 0)
    assert engine.streams[0].cancelled
    held.let_go.set()
    await asyncio.to_thread(eventually, lambda: ledger.status().writable and not ledger.status().open_calls)
    assert [(call.finish_reason, call.response) for call in reader.list().calls] == [("failed", "")]
    reader.close()
    await asyncio.to_thread(ledger.close)
