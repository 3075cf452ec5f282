"""Replay: MATCH, MISMATCH with the first position, NOT COMPARABLE with the reason; and it is itself recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.errors import UnknownRecord
from minivault.generation import GenerationRequest, SamplingParams
from minivault.service import ReplayVerdict
from minivault.service.replay import compare
from tests.fakes import Bench, breaks_after, echoes_seed, make_bench, says

CALLER = Caller("10.0.0.1")


async def recorded(bench: Bench, **fields: Any) -> str:
    sampling = fields.pop("sampling", SamplingParams())
    await bench.service.generate(GenerationRequest(prompt="hi", request_id="r1", sampling=sampling, **fields), CALLER)
    return "r1"


async def test_the_same_tokens_are_a_match() -> None:
    bench = make_bench()
    result = await bench.service.replay(await recorded(bench), CALLER)
    assert (result.verdict, result.compared_tokens) == (ReplayVerdict.MATCH, bench.ledger.outcomes[0].completion_tokens)


async def test_a_replay_runs_the_recorded_tokens_parameters_and_seed_and_is_recorded() -> None:
    bench = make_bench()
    await recorded(bench, sampling=SamplingParams(temperature=0.3, stop=("zz",)))
    bench.model.generation_defaults = {"temperature": 0.9}
    result = await bench.service.replay("r1", CALLER)
    first, again = bench.engine.requests
    assert (first.prompt_token_ids, first.sampling) == (again.prompt_token_ids, again.sampling)
    intent = bench.ledger.intents[1]
    assert (intent.surface, intent.parameters["replay_of"]) == ("replay", 0)
    assert result.record is not None
    assert bench.ledger.outcomes[1].finish_reason == "stop"


async def test_a_stop_string_stops_the_replay_at_the_same_token() -> None:
    bench = make_bench(says("one END two", at_once=4))
    await recorded(bench, sampling=SamplingParams(stop=("END",)))
    bench.engine.answer = says("one END two", at_once=1)
    assert (await bench.service.replay("r1", CALLER)).verdict is ReplayVerdict.MATCH


async def test_another_token_is_a_mismatch_at_its_position() -> None:
    bench = make_bench(says("abcd"))
    await recorded(bench)
    bench.engine.answer = says("abXd")
    result = await bench.service.replay("r1", CALLER)
    assert (result.verdict, result.position, result.expected_token_id, result.actual_token_id) == (
        ReplayVerdict.MISMATCH, 2, ord("c"), ord("X"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("recorded_ids", "reason", "again", "verdict", "position"),
    [
        ((1, 2), "stop", (1, 2), "MATCH", None),
        ((1, 2), "stop", (1, 2, 3), "MISMATCH", 2),
        ((1, 2), "length", (1,), "MISMATCH", 1),
        ((1, 2), "cancelled", (1, 2, 3), "MATCH", None),
        ((1, 2), "cancelled", (1,), "MISMATCH", 1),
        ((), "stop", (), "MATCH", None),
    ],
)
def test_a_call_that_was_cut_short_must_begin_the_replay_and_any_other_must_equal_it(
    recorded_ids: tuple[int, ...], reason: str, again: tuple[int, ...], verdict: str, position: int | None
) -> None:
    result = compare(recorded_ids, reason, again)
    assert (result.verdict, result.position) == (verdict, position)


async def _not_comparable(bench: Bench) -> str:
    before = len(bench.ledger.intents)
    result = await bench.service.replay("r1", CALLER)
    assert result.verdict is ReplayVerdict.NOT_COMPARABLE
    assert len(bench.ledger.intents) == before
    return result.reason or ""


@pytest.mark.parametrize("field", ["weights_digest", "tokenizer_digest"])
async def test_other_weights_or_another_tokenizer_are_not_comparable(field: str) -> None:
    bench = make_bench()
    await recorded(bench)
    setattr(bench.model, field, "sha256:ff")
    assert field.partition("_")[0] in await _not_comparable(bench)


@pytest.mark.parametrize(("change", "word"), [({"arithmetic": "f32-v1"}, "arithmetic"), ({"exact": False}, "promise")])
async def test_another_arithmetic_or_an_inexact_engine_is_not_comparable(change: dict[str, Any], word: str) -> None:
    bench = make_bench()
    await recorded(bench)
    bench.engine.info = replace(bench.engine.info, **change)
    assert word in await _not_comparable(bench)


async def test_content_that_was_not_stored_is_not_comparable() -> None:
    bench = make_bench()
    await recorded(bench, store=False)
    assert "never stored" in await _not_comparable(bench)


async def test_a_call_without_a_token_is_not_comparable() -> None:
    bench = make_bench(breaks_after(""))
    with pytest.raises(Exception, match="broke"):
        await recorded(bench)
    bench.engine.answer = echoes_seed
    assert "no token" in await _not_comparable(bench)


async def test_a_record_that_was_altered_is_a_mismatch_and_nothing_is_run() -> None:
    bench = make_bench()
    await recorded(bench)
    bench.ledger.altered.add(0)
    result = await bench.service.replay("r1", CALLER)
    assert (result.verdict, result.position, len(bench.engine.requests)) == (ReplayVerdict.MISMATCH, None, 1)
    assert "not what was committed to" in (result.reason or "")


async def test_an_unknown_record_is_said_to_be_unknown() -> None:
    with pytest.raises(UnknownRecord):
        await make_bench().service.replay("nope", CALLER)
