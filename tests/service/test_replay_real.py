"""Replay by the real engine: 200 sampled answers, forms and tools, other weights, another compiler, a forged answer."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

import minivault
from minivault.access.caller import Caller
from minivault.engine.engine import GRAMMAR_TOO_COMPLEX
from minivault.engine.native import sizes
from minivault.engine.native.grammar import Grammar
from minivault.errors import ContextTooLong, InvalidRequest, UnknownRecord, UnsupportedFeature
from minivault.generation import GenerationRequest, Message, SamplingParams
from minivault.models.architecture import read_architecture
from minivault.models.catalog import Catalog
from minivault.models.json_file import read_json_object
from minivault.models.structure import LazyGrammars
from minivault.service import ReplayVerdict, Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.record import Intent, Outcome, Pin
from minivault.vault.verify import verify

CALLER = Caller("10.0.0.1")
GUIDE = Path(minivault.__file__).parent / "guide"
CALLS = 200
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["here", "there"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}


def settings(folder: Path, **more: Any) -> Settings:
    sized: dict[str, Any] = {"kv_cache_memory": 64 << 20} | more
    return Settings(data_dir=folder, threads=1, **sized)


def drawn_request(number: int) -> GenerationRequest:
    """A short sampled answer; which parameters it has is drawn, with a seed of its own."""
    draw = random.Random(number)  # noqa: S311 - test data
    sampling = SamplingParams(
        max_tokens=draw.randint(4, 12),
        temperature=draw.choice((0.4, 0.8, 1.0, 1.5)),
        top_k=draw.choice((0, 20)),
        top_p=draw.choice((0.8, 1.0)),
        min_p=draw.choice((0.0, 0.05)),
        repetition_penalty=draw.choice((1.0, 1.2)),
        frequency_penalty=draw.choice((0.0, 0.5)),
        stop=draw.choice(((), (" the",))),
    )
    return GenerationRequest(prompt=f"Question {number}?", sampling=sampling, request_id=f"q{number}")


async def verdict(service: Service, record_id: str) -> tuple[ReplayVerdict, str | None]:
    result = await service.replay(record_id, CALLER)
    return result.verdict, result.reason


async def test_two_hundred_sampled_answers_match_after_a_restart(tmp_path: Path) -> None:
    async with open_service(settings(tmp_path)) as service:
        asked = [service.generate(drawn_request(number), CALLER) for number in range(CALLS)]
        answers = await asyncio.gather(*asked)
    assert len({answer.seed for answer in answers}) == CALLS, "the seeds were drawn"
    async with open_service(settings(tmp_path)) as service:
        found = await asyncio.gather(*(verdict(service, f"q{number}") for number in range(CALLS)))
    assert Counter(found) == {(ReplayVerdict.MATCH, None): CALLS}


async def test_a_tool_call_replays_and_not_by_another_compiler(tmp_path: Path) -> None:
    request = GenerationRequest(
        messages=(Message("user", "Where is it?"),),
        tools=(TOOL,),
        tool_choice="required",
        sampling=SamplingParams(max_tokens=60, temperature=1.0),
        request_id="tool",
    )
    async with open_service(settings(tmp_path)) as service:
        await service.generate(request, CALLER)
        recorded = (await service.records.get("tool"))["parameters"]["response_format"]
        assert recorded["compiler"].startswith("llguidance")
        assert await verdict(service, "tool") == (ReplayVerdict.MATCH, None)
        async with service.models.lease(None) as model:
            model.grammars._made().version = "llguidance 0.0.0"  # type: ignore[attr-defined]
        assert await verdict(service, "tool") == (
            ReplayVerdict.NOT_COMPARABLE,
            "its form was held by another grammar compiler",
        )


async def test_an_answer_whose_grammar_has_too_many_meanings_is_the_requests_own_fault(tmp_path: Path) -> None:
    form = {"type": "grammar", "grammar": 'start: s\ns: s s s | s s | /[a-z]/ | " "'}
    sampling = SamplingParams(max_tokens=200, ignore_eos=True, seed=1)
    async with open_service(settings(tmp_path)) as service:
        asked = GenerationRequest(prompt="hi", request_id="r", sampling=sampling, response_format=form)
        with pytest.raises(InvalidRequest, match="became too complex") as refused:
            await service.generate(asked, CALLER)
        assert refused.value.param == "response_format"
        assert (await service.records.get("r"))["finish_reason"] == "failed"


async def test_a_replay_whose_grammar_becomes_too_complex_is_not_comparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"type": "regex", "regex": "[a-z]{3}"}
    async with open_service(settings(tmp_path)) as service:
        await service.generate(GenerationRequest(prompt="hi", request_id="r", response_format=form), CALLER)
        monkeypatch.setattr(Grammar, "is_broken", True)
        assert await verdict(service, "r") == (
            ReplayVerdict.NOT_COMPARABLE,
            f"the form of its answer is refused here: response_format: {GRAMMAR_TOO_COMPLEX}",
        )


async def test_a_form_that_is_refused_today_is_not_comparable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of grammars may grow stricter than a record; an audit of all records goes on past such a one."""
    form = {"type": "regex", "regex": "[a-z]{3}"}
    async with open_service(settings(tmp_path)) as service:
        await service.generate(GenerationRequest(prompt="hi", request_id="r", response_format=form), CALLER)

        def refuse(*_: object) -> None:
            raise InvalidRequest("response_format.regex: it is too complex", param="response_format")

        monkeypatch.setattr(LazyGrammars, "compile", refuse)
        assert await verdict(service, "r") == (
            ReplayVerdict.NOT_COMPARABLE,
            "the form of its answer is refused here: response_format.regex: it is too complex",
        )


async def test_a_form_for_which_no_compiler_can_be_made_any_more_is_not_comparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"type": "regex", "regex": "[a-z]{3}"}
    async with open_service(settings(tmp_path)) as service:
        await service.generate(GenerationRequest(prompt="hi", request_id="r", response_format=form), CALLER)

        def refuse(_: object) -> None:
            raise UnsupportedFeature("response_format: this tokenizer cannot be read", param="response_format")

        monkeypatch.setattr(LazyGrammars, "_made", refuse)
        assert await verdict(service, "r") == (
            ReplayVerdict.NOT_COMPARABLE,
            "the form of its answer is refused here: response_format: this tokenizer cannot be read",
        )


SCHEMA = {"type": "object", "properties": {"xylophone": {"enum": ["tuned", "broken"]}}, "required": ["xylophone"]}


def stopped_request(name: str, **more: Any) -> GenerationRequest:
    """A sampled answer with a stop string and, if asked for, a form."""
    sampling = SamplingParams(max_tokens=24, temperature=1.0, stop=(" the", "xylo stop"))
    return GenerationRequest(prompt="Where are my prompts?", sampling=sampling, request_id=name, **more)


def plain_leaves(vault: Path) -> str:
    db = apsw.Connection(str(vault), flags=apsw.SQLITE_OPEN_READONLY)
    leaves = db.execute("SELECT group_concat(CAST(data AS TEXT)) FROM leaves").get
    db.close()
    return str(leaves)


async def test_a_call_with_a_form_and_stop_strings_replays_until_it_is_erased(tmp_path: Path) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    async with open_service(settings(tmp_path)) as service:
        await service.generate(stopped_request("formed", response_format=form), CALLER)
        await service.generate(stopped_request("unkept", store=False), CALLER)
        assert await verdict(service, "formed") == (ReplayVerdict.MATCH, None)
        assert await verdict(service, "unkept") == (ReplayVerdict.NOT_COMPARABLE, "its content was never stored")
        shown = (await service.records.get("formed"))["parameters"]
        assert (shown["stop"], "xylophone" in shown["response_format"]["source"]) == ([" the", "xylo stop"], True)
        assert "xylo" not in plain_leaves(tmp_path / "vault.db")
        await service.records.erase("formed")
        assert await verdict(service, "formed") == (ReplayVerdict.NOT_COMPARABLE, "its content was erased")
        assert (await service.records.get("formed"))["parameters"]["stop"] is None
    reader = Reader.open(tmp_path / "vault.db")
    assert verify(reader).ok
    reader.close()


async def test_a_record_from_before_with_its_stop_strings_in_plain_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    monkeypatch.setattr("minivault.service.prepared.written_in", lambda effective: ())
    async with open_service(settings(tmp_path)) as service:
        await service.generate(stopped_request("old", response_format=form), CALLER)
    monkeypatch.undo()
    assert "xylophone" in plain_leaves(tmp_path / "vault.db")
    async with open_service(settings(tmp_path)) as service:
        assert await verdict(service, "old") == (ReplayVerdict.MATCH, None)
        assert (await service.records.get("old"))["parameters"]["stop"] == [" the", "xylo stop"]
    reader = Reader.open(tmp_path / "vault.db")
    assert verify(reader).ok
    reader.close()


def of_tokens(count: int) -> int:
    """Bytes of KV cache for the guide model."""
    arch = read_architecture(read_json_object(GUIDE / "config.json"))
    return count // sizes.BLOCK * sizes.block_bytes(arch, "int8")


def long_request(name: str, max_tokens: int | None) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=max_tokens, temperature=1.0, ignore_eos=True)
    return GenerationRequest(prompt="Why?", raw=True, sampling=sampling, request_id=name)


async def test_a_machine_with_less_memory_refuses_or_says_why_and_cuts_nothing_unsaid(tmp_path: Path) -> None:
    async with open_service(settings(tmp_path)) as service:
        answer = await service.generate(long_request("long", 200), CALLER)
        assert len(answer.token_ids) == 200
    async with open_service(settings(tmp_path, kv_cache_memory=of_tokens(64))) as service:
        assert await verdict(service, "long") == (
            ReplayVerdict.NOT_COMPARABLE,
            "its prompt and max_tokens do not fit the KV cache here: raise kv_cache_memory",
        )
        with pytest.raises(ContextTooLong, match="kv_cache_memory"):
            await service.generate(long_request("refused", 200), CALLER)
        with pytest.raises(UnknownRecord):
            await service.records.get("refused")
        await service.generate(long_request("cut", None), CALLER)
        prompt = len((await service.records.detail("cut")).prompt_token_ids or ())
        assert (await service.records.get("cut"))["parameters"]["max_tokens"] == 65 - prompt
    async with open_service(settings(tmp_path)) as service:
        assert await verdict(service, "long") == (ReplayVerdict.MATCH, None)
        assert await verdict(service, "cut") == (ReplayVerdict.MATCH, None)


async def test_one_byte_of_the_weights_makes_it_not_comparable(tmp_path: Path) -> None:
    folder, chosen = tmp_path / "mine", settings(tmp_path / "data", model="mine")
    shutil.copytree(GUIDE, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    catalog = Catalog(chosen.models_dir)
    catalog.import_folder(folder, "mine")
    async with open_service(chosen) as service:
        await service.generate(GenerationRequest(prompt="hi", request_id="r"), CALLER)
        assert await verdict(service, "r") == (ReplayVerdict.MATCH, None)
    catalog.remove("mine")
    [weights] = folder.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    catalog.import_folder(folder, "mine")
    async with open_service(chosen) as service:
        assert await verdict(service, "r") == (ReplayVerdict.NOT_COMPARABLE, "it was answered by other weights")


FORGED = "UPDATE contents SET data = zeroblob(length(data)) WHERE kind = "
FORGERIES = {
    "the answer's text": FORGED + "'response_text'",
    "the answer's tokens": FORGED + "'response_token_ids'",
    "a token torn": "UPDATE contents SET data = x'00' WHERE kind = 'response_token_ids'",
    "the prompt's text": FORGED + "'prompt_text'",
    "the prompt's tokens": FORGED + "'prompt_token_ids'",
    "the stop strings": FORGED + "'constraints'",
    "other stop strings": (
        "UPDATE contents SET data = CAST(replace(data, ' the', ' xxx') AS BLOB) WHERE kind = 'constraints'"
    ),
    "the stop strings gone": "DELETE FROM contents WHERE kind = 'constraints'",
    "the answer's text gone": "DELETE FROM contents WHERE kind = 'response_text'",
    "the answer's tokens gone": "DELETE FROM contents WHERE kind = 'response_token_ids'",
    "the view that shows it": (
        "DROP VIEW call_texts; CREATE VIEW call_texts (intent_index, prompt, response)"
        " AS SELECT intent_index, 'a lie', 'another' FROM calls"
    ),
    "the intent": (
        "UPDATE leaves SET data = CAST(replace(CAST(data AS TEXT), 'http', 'htt_') AS BLOB) WHERE leaf_index = 0"
    ),
}


@pytest.mark.parametrize("sql", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_record_is_found_by_verify_and_is_a_mismatch(tmp_path: Path, sql: str) -> None:
    async with open_service(settings(tmp_path)) as service:
        await service.generate(stopped_request("q1"), CALLER)
        db = apsw.Connection(str(tmp_path / "vault.db"))
        db.execute(sql)
        db.close()
        result = await service.replay("q1", CALLER)
        assert (result.verdict, result.record) == (ReplayVerdict.MISMATCH, None)
        assert "not what was committed to" in (result.reason or "")
    reader = Reader.open(tmp_path / "vault.db")
    assert not verify(reader).ok
    reader.close()


async def test_an_answer_forged_by_who_may_sign_verifies_and_is_a_mismatch(tmp_path: Path) -> None:
    async with open_service(settings(tmp_path)) as service:
        answer = await service.generate(drawn_request(1), CALLER)
        detail = await service.records.detail("q1")
    forge(tmp_path / "vault.db", detail.intent, detail.prompt_token_ids or (), (*answer.token_ids[:-1], 3))
    async with open_service(settings(tmp_path)) as service:
        result = await service.replay("forged", CALLER)
        assert (result.verdict, result.position) == (ReplayVerdict.MISMATCH, len(answer.token_ids) - 1)
    reader = Reader.open(tmp_path / "vault.db")
    assert verify(reader).ok
    reader.close()


def forge(vault: Path, leaf: dict[str, Any], prompt: tuple[int, ...], answer: tuple[int, ...]) -> None:
    """Record, with the vault's own means, an answer that the model never gave."""
    ledger = Ledger.open(vault, mirror_dir=None)
    intent = Intent(
        request_id="forged", surface="native", source="http", api_key_id=None, mode="full", pin=Pin(**leaf["pin"]),
        parameters=leaf["parameters"], ignored=(), store=True, prompt_text="Question 1?", prompt_token_ids=prompt,
        raw_request=b"",
    )  # fmt: skip
    index = ledger.append_intent(intent).result(120).index
    timings = {"queue_ns": 1, "total_ns": 2}
    ledger.append_outcome(Outcome(index, "length", "made up", answer, len(prompt), len(answer), timings)).result(120)
    ledger.close()
