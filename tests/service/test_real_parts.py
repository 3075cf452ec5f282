"""The walk with the real ledger, the real reader, the embedded model and the native engine: what the fakes promise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minivault.access.caller import Caller
from minivault.errors import LedgerUnavailable, UnknownModel, VaultCorrupt
from minivault.generation import FinishReason, GenerationRequest, SamplingParams
from minivault.models.catalog import ModelEntry
from minivault.models.pooled import PooledModel, Report
from minivault.service import ReplayVerdict, Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.vault.head import VerifierKey, open_note
from minivault.vault.ledger import Ledger
from minivault.vault.proof import check_proof
from minivault.vault.reader import Reader
from tests.fakes import FakeModel, FakeModels, ScriptedEngine, says, until

CALLER = Caller("10.0.0.1")


def ask(prompt: str = "What model are you?", *, stream: bool = False, **sampling: object) -> GenerationRequest:
    chosen = SamplingParams(**{"seed": 7, "max_tokens": 24, **sampling})  # type: ignore[arg-type]
    return GenerationRequest(prompt=prompt, sampling=chosen, stream=stream, request_id=prompt[:4].strip())


@contextlib.asynccontextmanager
async def over_real_vault(folder: Path, engine: ScriptedEngine) -> AsyncIterator[tuple[Service, Ledger, Reader]]:
    ledger = Ledger.open(folder / "vault.db", mirror_dir=folder / "logs")
    reader = Reader.open(folder / "vault.db")
    try:
        yield Service(FakeModels(FakeModel(engine)), ledger, reader), ledger, reader
    finally:
        reader.close()
        await asyncio.to_thread(ledger.close)


async def test_the_real_ledger_holds_what_the_fake_would(tmp_path: Path) -> None:
    async with over_real_vault(tmp_path, ScriptedEngine(says("grüße ✓"))) as (service, _, reader):
        answer = await service.generate(ask("hi", stop=["✓"]), CALLER)
        detail = reader.get("hi")
        replay = await service.replay("hi", CALLER)
    assert (detail.call.prompt, detail.call.response, detail.call.finish_reason) == ("hi", "grüße ", "stop")
    assert (answer.record.index, answer.record.leaf) == (detail.call.outcome_index, detail.outcome_leaf)
    assert detail.response_token_ids == tuple("grüße ✓".encode())
    assert detail.intent["parameters"]["seed"] == 7
    assert replay.verdict is ReplayVerdict.MATCH


async def test_every_character_of_prompt_and_answer_comes_back_from_the_vault(tmp_path: Path) -> None:
    text = 'nul \x00 bell \x07 line \r\n \u2028 quote " slash \\ nonchar \uffff astral \U0001f600 mark \ufeff'
    async with over_real_vault(tmp_path, ScriptedEngine(says(text))) as (service, _, reader):
        await service.generate(GenerationRequest(prompt=text, request_id="all"), CALLER)
        call = reader.get("all").call
    assert (call.prompt, call.response) == (text, text)
    [line] = (tmp_path / "logs" / "log.jsonl").read_bytes().removesuffix(b"\n").split(b"\n")
    assert (json.loads(line)["prompt"], json.loads(line)["response"]) == (text, text)


async def test_the_real_ledger_and_the_counters_agree(tmp_path: Path) -> None:
    engine = ScriptedEngine(says("abcdef"))
    async with over_real_vault(tmp_path, engine) as (service, ledger, reader):
        await asyncio.gather(*(service.generate(ask(f"p{turn}"), CALLER) for turn in range(20)))
        stream = service.stream(ask("gone"), CALLER)
        assert (await anext(stream)).text == "a"
        await stream.aclose()
        await service.drain(60)
        stats, metrics = reader.stats(), service.metrics.render().decode()
        assert ledger.status().records == 42
    assert (
        f'vllm:generation_tokens_total{{engine="scripted",model_name="fake"}} {stats["completion_tokens"]}.0' in metrics
    )
    assert stats["finish_reasons"] == {"cancelled": 1, "stop": 20}


async def test_head_and_proof_are_those_of_the_vault(tmp_path: Path) -> None:
    async with over_real_vault(tmp_path, ScriptedEngine(says("abc"))) as (service, ledger, _):
        await service.generate(ask("hi"), CALLER)
        await until(lambda: ledger.status().head_size)
        note, key = await service.records.head()
        proof = await service.records.proof("0")
    assert open_note(note, VerifierKey.parse(key)).size > 0
    assert check_proof(proof, VerifierKey.parse(key)).index == 0


async def test_what_was_erased_is_not_comparable(tmp_path: Path) -> None:
    async with over_real_vault(tmp_path, ScriptedEngine(says("abc"))) as (service, _, reader):
        await service.generate(ask("hi"), CALLER)
        await service.generate(ask("ho"), CALLER)
        one = await service.records.erase("hi")
        rest = await service.records.erase_all(before="9999-01-01")
        replay = await service.replay("hi", CALLER)
        assert [call.prompt for call in reader.list().calls] == [None, None]
    assert (one["erased"], one["record"]["index"]) == ([0], 4)
    assert (rest["erased"], rest["more"]) == ([2], False)
    assert (replay.verdict, replay.reason) == (ReplayVerdict.NOT_COMPARABLE, "its content was erased")


async def test_erasing_a_call_reaches_its_replays(tmp_path: Path) -> None:
    async with over_real_vault(tmp_path, ScriptedEngine(says("abc"))) as (service, _, reader):
        await service.generate(ask("hi"), CALLER)
        assert (await service.replay("hi", CALLER)).verdict is ReplayVerdict.MATCH
        gone = await service.records.erase("hi")
        assert [(call.prompt, call.response) for call in reader.list().calls] == [(None, None)] * 2
    assert (gone["erased"], gone["copies"]) == ([0, 2], [2])


async def test_a_closed_ledger_refuses_and_nothing_is_answered(tmp_path: Path) -> None:
    engine = ScriptedEngine(says("abc"))
    async with over_real_vault(tmp_path, engine) as (service, ledger, _):
        await asyncio.to_thread(ledger.close)
        with pytest.raises(LedgerUnavailable):
            await service.generate(ask(), CALLER)
    assert engine.requests == []


async def test_a_ledger_that_closes_in_the_middle_gives_an_error_and_no_answer(tmp_path: Path) -> None:
    engine = ScriptedEngine(says("abc"))
    engine.hold_after = 1
    async with over_real_vault(tmp_path, engine) as (service, ledger, reader):
        answering = asyncio.ensure_future(service.generate(ask("left"), CALLER))
        await until(lambda: engine.streams)
        await asyncio.to_thread(ledger.close)
        engine.release()
        with pytest.raises(LedgerUnavailable):
            await answering
        assert reader.get("left").call.finish_reason is None
    async with over_real_vault(tmp_path, engine) as (_, _, reader):
        assert reader.get("left").call.finish_reason == "interrupted"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_vault_takes_times_far_away(tmp_path: Path, time: str) -> None:
    async with over_real_vault(tmp_path, ScriptedEngine(says("a"))) as (service, _, _):
        await service.generate(ask("hi"), CALLER)
        found = [len((await service.records.list(**{side: time}))["records"]) for side in ("after", "before")]  # type: ignore[arg-type]
    assert sorted(found) == [0, 1]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """The embedded model on the native engine, with a vault of its own."""
    async with open_service(Settings(data_dir=tmp_path, threads=1, kv_cache_memory=64 << 20)) as opened:
        yield opened


async def test_the_embedded_model_answers_the_same_whole_and_in_pieces(service: Service) -> None:
    whole = await service.generate(ask(), CALLER)
    pieces = [chunk async for chunk in service.stream(ask(), CALLER)]
    assert "".join(chunk.text for chunk in pieces) == whole.response
    assert 1 <= whole.usage.completion_tokens <= 24


async def test_the_embedded_model_stops_before_a_stop_string(service: Service) -> None:
    whole = (await service.generate(ask(), CALLER)).response
    stop = whole[len(whole) // 2 :][:3]
    stopped = await service.generate(ask(stop=(stop,)), CALLER)
    assert stopped.response == whole[: whole.index(stop)]
    assert stopped.finish_reason is FinishReason.STOP


async def test_a_recorded_answer_of_the_embedded_model_replays_to_a_match(service: Service, tmp_path: Path) -> None:
    answer = await service.generate(ask(temperature=1.0), CALLER)
    result = await service.replay(str(answer.record.index), CALLER)
    assert (result.verdict, result.compared_tokens) == (ReplayVerdict.MATCH, answer.usage.completion_tokens)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "log.jsonl").read_text().splitlines()]
    assert [line["response"] for line in lines] == [answer.response] * 2


async def test_answers_are_the_same_alone_and_among_others(service: Service) -> None:
    prompts = [f"Question {turn}" for turn in range(8)]
    alone = [(await service.generate(ask(prompt, temperature=0.8), CALLER)).response for prompt in prompts]
    together = await asyncio.gather(*(service.generate(ask(prompt, temperature=0.8), CALLER) for prompt in prompts))
    assert [answer.response for answer in together] == alone


async def test_a_stream_of_the_native_engine_that_is_left_is_cancelled(service: Service) -> None:
    stream = service.stream(ask(max_tokens=200, ignore_eos=True), CALLER)
    first = await anext(stream)
    await stream.aclose()
    await service.drain(60)
    call = (await service.records.list())["records"][0]
    assert call["finish_reason"] == "cancelled"
    assert call["response"] == first.text


async def test_a_model_that_is_not_in_the_catalog_stops_the_opening(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        async with open_service(Settings(data_dir=tmp_path, model="absent")):
            raise AssertionError("it opened")


async def test_a_request_while_the_model_loads_waits_for_it(tmp_path: Path) -> None:
    async with open_service(Settings(data_dir=tmp_path, threads=1, kv_cache_memory=64 << 20), wait=False) as opened:
        assert opened.not_ready_because() == "The model is still loading."
        answer = await opened.generate(ask(), CALLER)
        assert answer.usage.completion_tokens > 0
        assert opened.not_ready_because() is None


async def test_the_end_does_not_wait_for_a_model_that_still_loads(tmp_path: Path) -> None:
    begun, let_go, gone = threading.Event(), threading.Event(), threading.Event()

    class Stuck:
        def need(self, entry: ModelEntry) -> int:
            return 1

        def load(self, entry: ModelEntry, report: Report) -> PooledModel:
            begun.set()
            let_go.wait(60)
            gone.set()
            raise AssertionError("nobody wants it any more")

    async with open_service(Settings(data_dir=tmp_path), wait=False, loader=Stuck()) as opened:
        assert await asyncio.to_thread(begun.wait, 120)
    assert not gone.is_set()
    assert opened.models.loaded() == []
    let_go.set()
    assert await asyncio.to_thread(gone.wait, 120)


async def test_a_vault_that_cannot_be_read_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> Reader:
        raise VaultCorrupt("it cannot be read")

    settings = Settings(data_dir=tmp_path)
    monkeypatch.setattr(Reader, "open", refuses)
    with pytest.raises(VaultCorrupt, match="cannot be read"):
        await open_service(settings, wait=False).__aenter__()
    ledger = await asyncio.to_thread(Ledger.open, settings.vault_path, mirror_dir=None)
    assert ledger.status().writable
    await asyncio.to_thread(ledger.close)
