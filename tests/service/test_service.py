"""The walk of a request: what is shown, what is recorded, and in which order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.errors import (
    ContextTooLong,
    EngineFailed,
    InvalidRequest,
    LedgerUnavailable,
    Overloaded,
    UnknownModel,
    UnsupportedFeature,
)
from minivault.generation import FinishReason, GenerationRequest, Message, SamplingParams
from minivault.service import ServiceLimits
from tests.fakes import SPECIAL, Bench, breaks_after, make_bench, says, until
from tests.service.asking import CALLER, ask, collect

# -- what is shown


async def test_pieces_joined_equal_the_full_answer() -> None:
    bench = make_bench(says(" grüße\n✓ \x00done  ", at_once=1))
    whole = await bench.service.generate(ask(), CALLER)
    pieces = await collect(bench, ask())
    assert "".join(chunk.text for chunk in pieces) == whole.response == " grüße\n✓ \x00done  "


async def test_the_last_chunk_and_only_it_has_the_completion() -> None:
    pieces = await collect(make_bench(), ask())
    assert [chunk.completion is not None for chunk in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].text == ""


async def test_echo_puts_the_prompt_before_the_response_but_not_into_the_record() -> None:
    bench = make_bench(says("there"))
    whole = await bench.service.generate(ask("hi ", echo=True), CALLER)
    pieces = await collect(bench, ask("hi ", echo=True))
    assert whole.response == "".join(chunk.text for chunk in pieces) == "hi there"
    assert [outcome.response_text for outcome in bench.ledger.outcomes] == ["there", "there"]


async def test_a_stop_string_ends_the_answer_before_it_and_frees_the_engine() -> None:
    bench = make_bench(says("one END two three", at_once=2))
    answer = await bench.service.generate(ask(sampling=SamplingParams(stop=("END",))), CALLER)
    assert (answer.response, answer.finish_reason) == ("one ", FinishReason.STOP)
    assert bench.engine.streams[0].cancelled
    assert answer.usage.completion_tokens == len("one END")
    assert bench.outcome.response_token_ids == tuple(b"one END")


async def test_max_tokens_ends_with_length() -> None:
    answer = await make_bench(says("abcdef")).service.generate(ask(sampling=SamplingParams(max_tokens=3)), CALLER)
    assert (answer.response, answer.finish_reason, answer.usage.completion_tokens) == ("abc", FinishReason.LENGTH, 3)


async def test_a_request_without_a_seed_gets_one_that_every_json_reader_holds() -> None:
    bench = make_bench()
    answer = await bench.service.generate(ask(sampling=SamplingParams()), CALLER)
    assert 0 <= answer.seed < 2**53
    assert bench.engine.requests[0].sampling.seed == answer.seed == bench.ledger.intents[0].parameters["seed"]


async def test_the_same_seed_gives_the_same_answer() -> None:
    bench = make_bench()
    first, second = [await bench.service.generate(ask(), CALLER) for _ in range(2)]
    assert first.response == second.response


# -- the prompt


async def test_a_model_with_a_template_gets_the_prompt_as_a_turn() -> None:
    bench = make_bench(template=True)
    await bench.service.generate(ask("hi", system="be kind"), CALLER)
    assert bytes(bench.engine.requests[0].prompt_token_ids) == b"<system>be kind<user>hi<assistant>"
    assert bench.ledger.intents[0].prompt_text == "hi"


async def test_raw_gives_the_bare_prompt_with_the_tokens_of_its_beginning() -> None:
    bench = make_bench(template=True)
    await bench.service.generate(ask("hi", raw=True), CALLER)
    assert bench.engine.requests[0].prompt_token_ids == (SPECIAL, *b"hi")


async def test_a_long_prompt_is_tokenised_off_the_event_loop_to_the_same_tokens() -> None:
    bench = make_bench()
    bench.engine.info = _with_context(bench, 10_000)
    await bench.service.generate(ask("é" * 4096), CALLER)
    assert bench.engine.requests[0].prompt_token_ids == (SPECIAL, *("é" * 4096).encode())


def _with_context(bench: Bench, length: int) -> Any:
    return replace(bench.engine.info, context_length=length)


@pytest.mark.parametrize(
    ("request_", "error", "param"),
    [
        (ask("x" * 1024), ContextTooLong, "prompt"),
        (ask(sampling=SamplingParams(max_tokens=1022)), ContextTooLong, "max_tokens"),
        (ask(sampling=SamplingParams(max_tokens=4, min_tokens=5)), InvalidRequest, "min_tokens"),
        (ask(system="s"), UnsupportedFeature, "system"),
        (ask(system="s", raw=True), InvalidRequest, "system"),
        (GenerationRequest(messages=(Message("user", "a"),), tool_choice="required"), InvalidRequest, "tool_choice"),
        (GenerationRequest(prompt_token_ids=(1, 257)), InvalidRequest, "prompt"),
        (ask(sampling=SamplingParams(logit_bias=((257, 1.0),))), InvalidRequest, "logit_bias"),
        (ask(sampling=SamplingParams(stop_token_ids=(-1,))), InvalidRequest, "stop_token_ids"),
        (ask(response_format={"type": "json_object"}), UnsupportedFeature, "response_format"),
        (ask(model="other"), UnknownModel, "model"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_any_work(
    request_: GenerationRequest, error: type[Exception], param: str
) -> None:
    bench = make_bench()
    with pytest.raises(error) as caught:
        await bench.service.generate(request_, CALLER)
    assert getattr(caught.value, "param", None) == param
    assert (bench.ledger.intents, bench.engine.requests) == ([], [])


async def test_a_prompt_that_the_template_refuses_is_named_as_the_prompt() -> None:
    def refuses(*_: Any, **__: Any) -> str:
        raise InvalidRequest("the model's chat template refuses these messages", param="messages")

    bench = make_bench(template=True)
    bench.model.chat_template.render = refuses  # type: ignore[union-attr, method-assign]
    with pytest.raises(InvalidRequest) as caught:
        await bench.service.generate(ask(), CALLER)
    assert caught.value.param == "prompt"


async def test_response_format_text_is_no_constraint() -> None:
    assert (
        await make_bench(says("ok")).service.generate(ask(response_format={"type": "text"}), CALLER)
    ).response == "ok"


# -- the record


async def test_the_intent_holds_every_effective_parameter() -> None:
    bench = make_bench()
    bench.model.generation_defaults = {"temperature": 0.6, "top_p": 0.9}
    request = ask(request_id="abc", sampling=SamplingParams(top_p=0.5, seed=3), raw_request=b"{}")
    await bench.service.generate(request, Caller("10.0.0.1", "key-1"))
    intent = bench.ledger.intents[0]
    assert (intent.request_id, intent.surface, intent.source, intent.mode) == ("abc", "native", "http", "full")
    assert (intent.api_key_id, intent.raw_request, intent.store) == ("key-1", b"{}", True)
    chosen = {name: intent.parameters[name] for name in ("temperature", "top_p", "top_k", "seed", "max_tokens", "raw")}
    assert chosen == {"temperature": 0.6, "top_p": 0.5, "top_k": 0, "seed": 3, "max_tokens": 256, "raw": False}
    assert (intent.pin.model, intent.pin.weights_digest, intent.pin.arithmetic) == ("fake", "sha256:00", "bytes-v1")


async def test_nothing_is_called_finished_before_the_outcome_is_durable() -> None:
    bench = make_bench(says("answer", at_once=6))
    stream = bench.service.stream(ask(), CALLER)
    assert (await anext(stream)).text == "answer"
    bench.ledger.hold = True
    last = asyncio.ensure_future(anext(stream))
    await until(lambda: bench.ledger.outcomes)
    assert not last.done()
    bench.ledger.release()
    assert (await last).completion is not None


async def test_an_intent_that_cannot_be_written_is_an_error_and_nothing_runs() -> None:
    bench = make_bench()
    bench.ledger.faults = ["intent"]
    with pytest.raises(LedgerUnavailable):
        await bench.service.generate(ask(), CALLER)
    assert bench.engine.requests == []
    assert await bench.service.generate(ask(), CALLER)


async def test_an_outcome_that_cannot_be_written_is_an_error_and_no_answer() -> None:
    bench = make_bench(says("answer"))
    bench.ledger.faults = ["outcome"]
    with pytest.raises(LedgerUnavailable):
        await bench.service.generate(ask(), CALLER)


async def test_an_outcome_that_cannot_be_written_leaves_a_stream_without_its_last_chunk() -> None:
    bench = make_bench(says("answer", at_once=6))
    bench.ledger.faults = ["outcome"]
    stream = bench.service.stream(ask(), CALLER)
    assert (await anext(stream)).text == "answer"
    with pytest.raises(LedgerUnavailable):
        await anext(stream)


async def test_a_broken_engine_is_recorded_with_what_had_been_sent() -> None:
    bench = make_bench(breaks_after("part"))
    with pytest.raises(EngineFailed, match="the engine broke"):
        await collect(bench, ask())
    outcome = bench.outcome
    assert (outcome.finish_reason, outcome.response_text, outcome.error) == ("failed", "part", "the engine broke")


async def test_a_whole_answer_that_broke_was_not_sent_so_none_of_it_is_recorded() -> None:
    bench = make_bench(breaks_after("part"))
    with pytest.raises(EngineFailed):
        await bench.service.generate(ask(), CALLER)
    assert (bench.outcome.response_text, bench.outcome.completion_tokens) == ("", 0)


async def test_an_engine_that_refuses_after_the_intent_leaves_a_failed_outcome() -> None:
    bench = make_bench()
    bench.engine.refuses = Overloaded("The queue is full.", retry_after=1)
    with pytest.raises(Overloaded):
        await bench.service.generate(ask(), CALLER)
    assert (bench.outcome.finish_reason, bench.outcome.error) == ("failed", "The queue is full.")


async def test_a_fault_at_submission_leaves_a_failed_outcome_without_its_message() -> None:
    def broken(_request: Any) -> Any:
        raise RuntimeError("the prompt was hi")

    bench = make_bench(broken, limits=ServiceLimits(max_running=1, max_waiting=0))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await bench.service.generate(ask(), CALLER)
    assert [(outcome.finish_reason, outcome.error) for outcome in bench.ledger.outcomes] == [
        ("failed", "internal error")
    ] * 2


async def test_an_engine_that_ends_without_a_word_is_a_failure() -> None:
    bench = make_bench(lambda request: [])
    with pytest.raises(EngineFailed):
        await bench.service.generate(ask(), CALLER)
    assert bench.outcome.finish_reason == "failed"


async def test_timings_are_recorded_in_nanoseconds() -> None:
    ticks = iter(range(0, 10_000_000, 1000))
    bench = make_bench(says("ab"), now_ns=lambda: next(ticks))
    await bench.service.generate(ask(), CALLER)
    timings = bench.outcome.timings
    assert 0 < timings["queue_ns"] < timings["first_token_ns"] < timings["total_ns"]
    assert timings["decode_ns"] == timings["total_ns"] - timings["first_token_ns"]
