"""Answers from the record: what counts as the same request, whose record may answer it, and how that is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from minivault.access.caller import Caller
from minivault.access.roles import Role
from minivault.errors import EngineFailed
from minivault.generation import Completion, FinishReason, GenerationRequest, SamplingParams
from minivault.models.chat_template import DEFAULT_STOPS
from minivault.service import ReplayVerdict, Service
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.fakes import FakeModel, FakeModels, ScriptedEngine, breaks_after, echoes_seed, says

ALICE = Caller("10.0.0.1", "alice", Role.USER)
BOB = Caller("10.0.0.2", "bob", Role.USER)
AUDITOR = Caller("10.0.0.3", "auditor", Role.ADMIN)


@dataclass
class Place:
    """A service over a real vault and a scripted engine."""

    engine: ScriptedEngine
    model: FakeModel
    service: Service
    ledger: Ledger
    reader: Reader

    async def ask(
        self, caller: Caller = ALICE, *, seed: int | None = 7, stream: bool = False, **more: Any
    ) -> Completion:
        fields: dict[str, Any] = {
            name: more.pop(name) for name in ("prompt", "store", "response_format") if name in more
        }
        chosen: dict[str, Any] = {"seed": seed, "max_tokens": 200, **more}
        asked: dict[str, Any] = {"prompt": "hi", "sampling": SamplingParams(**chosen), **fields}
        request = GenerationRequest(**asked)
        if not stream:
            return await self.service.generate(request, caller)
        chunks = [chunk async for chunk in self.service.stream(request, caller)]
        completion = chunks[-1].completion
        assert completion is not None
        assert "".join(chunk.text for chunk in chunks) == completion.response
        return completion

    @property
    def runs(self) -> int:
        """How often the engine was asked."""
        return len(self.engine.requests)


@asynccontextmanager
async def place(folder: Path, *, on: bool = True, engine: ScriptedEngine | None = None) -> AsyncIterator[Place]:
    ledger = Ledger.open(folder / "vault.db", mirror_dir=None)
    reader = Reader.open(folder / "vault.db")
    engine = engine or ScriptedEngine()
    model = FakeModel(engine)
    service = Service(FakeModels(model), ledger, reader, answer_from_record=on)
    try:
        yield Place(engine, model, service, ledger, reader)
    finally:
        reader.close()
        await asyncio.to_thread(ledger.close)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_recorded_answer_and_a_record_of_its_own(tmp_path: Path, stream: bool) -> None:
    async with place(tmp_path) as here:
        first = await here.ask()
        again = await here.ask(stream=stream)
        detail = here.reader.get(again.record.index)
        assert (again.response, again.token_ids, again.usage) == (first.response, first.token_ids, first.usage)
        assert (here.runs, again.record.from_index) == (1, first.record.index)
        assert detail.intent["parameters"]["from_record"] == first.record.index
        assert detail.call.response == first.response
        assert verify(here.reader).ok


async def test_it_is_off_unless_it_is_set_or_asked_for(tmp_path: Path) -> None:
    async with place(tmp_path, on=False) as here:
        first = await here.ask()
        assert (await here.ask()).record.from_index is None
        assert (await here.ask(replace(ALICE, answer_from_record=True))).record.from_index == first.record.index
    async with place(tmp_path) as here:
        assert (await here.ask(replace(ALICE, answer_from_record=False))).record.from_index is None
        assert (await here.ask()).record.from_index == first.record.index, "after a restart as before it"


async def test_erasing_a_call_reaches_its_repeats_whoever_asked_and_what_replayed_them(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first, own = await here.ask(), await here.ask(stream=True)
        other = await here.ask(AUDITOR)
        replay = await here.service.replay(str(own.record.index), ALICE)
        assert replay.record is not None
        gone = await here.service.records.erase(str(first.record.index), owner=ALICE.owner)
        outcomes = [here.reader.get(index).call.outcome_index for index in gone["copies"]]
        assert outcomes == [own.record.index, other.record.index, replay.record.index]
        assert here.reader.erasable() == ()
        assert verify(here.reader).ok


async def test_each_repeat_names_the_call_that_was_generated(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask()
        assert [(await here.ask()).record.from_index for _ in range(3)] == [first.record.index] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"seed": None},
        {"prompt": "ho"},
        {"max_tokens": 199},
        {"temperature": 0.5},
        {"stop": ("zz",)},
        {"logit_bias": ((65, 1.0),)},
        {"logprobs": 1},
    ],
    ids=str,
)
async def test_another_question_is_not_a_repeat(tmp_path: Path, change: dict[str, Any]) -> None:
    async with place(tmp_path) as here:
        await here.ask()
        assert (await here.ask(**change)).record.from_index is None


async def test_without_chance_the_seed_does_not_matter(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask(seed=None, temperature=0.0)
        again = await here.ask(seed=None, temperature=0.0)
        assert (again.response, again.record.from_index) == (first.response, first.record.index)


@pytest.mark.parametrize("field", ["weights_digest", "tokenizer_digest", "template_digest"])
async def test_another_model_is_not_a_repeat(tmp_path: Path, field: str) -> None:
    async with place(tmp_path) as here:
        await here.ask()
        setattr(here.model, field, "sha256:ff")
        assert (await here.ask()).record.from_index is None


@pytest.mark.parametrize("change", [{"build": "2"}, {"arithmetic": "f32-v1"}, {"exact": False}], ids=str)
async def test_another_engine_is_not_a_repeat(tmp_path: Path, change: dict[str, Any]) -> None:
    async with place(tmp_path) as here:
        await here.ask()
        here.engine.info = replace(here.engine.info, **change)
        assert (await here.ask()).record.from_index is None


async def test_an_engine_that_promises_nothing_is_always_asked(tmp_path: Path) -> None:
    async with place(tmp_path, engine=ScriptedEngine(exact=False)) as here:
        await here.ask()
        assert (await here.ask()).record.from_index is None


async def test_a_key_gets_no_answer_of_another_key(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask(ALICE)
        own = await here.ask(BOB)
        assert own.record.from_index is None
        assert (await here.ask(BOB)).record.from_index == own.record.index
        assert (await here.ask(AUDITOR)).record.from_index == first.record.index, "who may read all may be answered so"


async def test_nothing_is_taken_from_a_call_whose_content_was_not_kept(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.ask(store=False)
        assert (await here.ask()).record.from_index is None


async def test_nothing_is_taken_from_an_erased_call_and_its_key_goes_too(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask()
        await here.service.records.erase(str(first.record.index))
        assert (await here.ask()).record.from_index is None
        with here.reader.connection() as db:
            assert db is not None
            keys = [key for (key,) in db.execute("SELECT repeat_key FROM calls ORDER BY intent_index")]
        assert keys[0] is None
        assert keys[1] is not None


async def test_nothing_is_taken_from_a_call_that_broke_or_was_cut_short(tmp_path: Path) -> None:
    async with place(tmp_path, engine=ScriptedEngine(breaks_after("half"))) as here:
        with pytest.raises(EngineFailed):
            await here.ask()
        here.engine.answer = echoes_seed
        request = GenerationRequest(prompt="hi", sampling=SamplingParams(seed=7, max_tokens=200), stream=True)
        stream = here.service.stream(request, ALICE)
        await anext(stream)
        await stream.aclose()
        assert (await here.ask()).record.from_index is None


async def test_a_call_whose_content_was_changed_answers_nobody(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask()
        db = apsw.Connection(str(tmp_path / "vault.db"))
        db.execute(
            "UPDATE contents SET data = zeroblob(length(data)) WHERE leaf_index = ? AND kind = 'response_token_ids'",
            (first.record.index,),
        )
        db.close()
        again = await here.ask()
        assert (again.record.from_index, again.response) == (None, first.response)


async def test_a_forged_key_leads_nowhere(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.ask(prompt="one")
        await here.ask(prompt="two")
        db = apsw.Connection(str(tmp_path / "vault.db"))
        key = db.execute("SELECT repeat_key FROM calls WHERE intent_index = 2").get
        db.execute("UPDATE calls SET repeat_key = ? WHERE intent_index = 0", (key,))
        db.execute("UPDATE calls SET repeat_key = NULL WHERE intent_index = 2")
        db.close()
        assert (await here.ask(prompt="two")).record.from_index is None


@pytest.mark.parametrize(("answer", "reason"), [(says("one END two", at_once=4), "stop"), (says("a" * 300), "length")])
async def test_the_end_is_the_same(tmp_path: Path, answer: Callable[..., Any], reason: str) -> None:
    async with place(tmp_path, engine=ScriptedEngine(answer)) as here:
        first = await here.ask(stop=("END", "none"))
        again = await here.ask(stop=("END", "none"))
        assert again.finish_reason is FinishReason(reason)
        assert replace(again, id="", record=first.record, generated_at="") == replace(first, id="", generated_at="")


async def test_what_the_caller_wrote_is_compared_though_it_is_in_no_leaf(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        first = await here.ask(stop=("xylophone",), logit_bias=((65, 1.0),), stop_token_ids=(7,))
        again = await here.ask(stop=("xylophone",), logit_bias=((65, 1.0),), stop_token_ids=(7,))
        other = await here.ask(stop=("xylophon",), logit_bias=((65, 1.0),), stop_token_ids=(7,))
        assert (again.record.from_index, other.record.from_index) == (first.record.index, None)
        detail = here.reader.get(again.record.index)
        names = ["logit_bias", "stop", "stop_token_ids"]
        assert (detail.intent["parameters"]["constraints"], "xylophone" in str(detail.intent)) == (names, False)
        assert verify(here.reader).ok


async def test_the_servers_own_stop_strings_are_no_content(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.ask(stop=DEFAULT_STOPS)
        detail = here.reader.get(0)
        assert (detail.intent["parameters"]["stop"], detail.constraints) == ([*DEFAULT_STOPS], None)


async def test_an_answer_from_the_record_replays(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.ask(AUDITOR)
        again = await here.ask(AUDITOR)
        result = await here.service.replay(str(again.record.index), AUDITOR)
        assert (result.verdict, here.runs) == (ReplayVerdict.MATCH, 2), "a replay asks the engine"


async def test_the_look_up_is_by_index(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await here.ask()
        with here.reader.connection() as db:
            assert db is not None
            sql = "SELECT intent_index FROM calls WHERE repeat_key = 1 AND finish_reason IN ('stop', 'length')"
            plans = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql} AND api_key_id = 'a'")]
    assert [plan for plan in plans if "calls_repeat (repeat_key=? AND api_key_id=?)" in plan]
