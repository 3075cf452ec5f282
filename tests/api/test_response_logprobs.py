"""Log-probabilities of responses: those of the message's tokens, in the whole and in the events that add up to it."""

from __future__ import annotations

from typing import Any

import pytest

from minivault.api.wire.message_tokens import MessageTokens
from minivault.generation import TokenLogprob
from minivault.models.reasoning import Reasoning, answer_parser
from minivault.models.tool_calls import Dialect, parser_for
from tests.api.test_responses import CALL, TOOL, create, events_of, get, templated
from tests.fakes import Bench, ByteTokenizer, TurnTemplate, make_bench, says

WANTED: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
RAW = "<think>\nYes, é.\n</think>\n\nYes, é. <tool"
FUNCTION = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def answering(text: str, *, at_once: int = 1, reasons: bool = False) -> Bench:
    bench = make_bench(says(text, at_once=at_once, logprobs=True), template=True)
    if reasons:
        bench.model.chat_template = TurnTemplate(reasons=True)
    return bench


def bytes_of(logprobs: list[dict[str, Any]]) -> str:
    return bytes(byte for token in logprobs for byte in token["bytes"]).decode()


def part_of(body: dict[str, Any]) -> dict[str, Any]:
    [part] = next(item["content"] for item in body["output"] if item["type"] == "message")
    return dict(part)


async def test_they_are_in_the_part_with_as_many_alternatives_as_were_asked_for() -> None:
    body = (await create(answering("héllo"), **WANTED)).json()
    told = part_of(body)["logprobs"]
    assert bytes_of(told) == "héllo"
    assert told[0] == {
        "token": "h", "logprob": -0.5, "bytes": [104],
        "top_logprobs": [{"token": "h", "logprob": -0.5, "bytes": [104]},
                         {"token": "\x00", "logprob": -3.0, "bytes": [0]}],
    }  # fmt: skip
    assert body["top_logprobs"] == 2


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize(
    ("raw", "message", "fields"),
    [
        ("héllo", "héllo", {}),
        (RAW, "Yes, é. <tool", {"tools": [TOOL]}),
        (CALL, "Well.", {"tools": [TOOL]}),
        ("one, two, three", "one", {"stop": [", t"]}),
    ],
)
async def test_the_events_and_the_whole_have_those_of_the_message(
    raw: str, message: str, fields: dict[str, Any], at_once: int
) -> None:
    def asked() -> Bench:
        return answering(raw, at_once=at_once, reasons=raw == RAW)

    whole = part_of((await create(asked(), **WANTED, **fields)).json())
    events = events_of(await create(asked(), **WANTED, **fields, stream=True))
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    [done] = [event for event in events if event["type"] == "response.output_text.done"]
    assert whole["text"] == done["text"] == "".join(event["delta"] for event in deltas) == message
    assert [token for event in deltas for token in event["logprobs"]] == whole["logprobs"] == done["logprobs"]
    assert part_of(events[-1]["response"]) == whole
    assert bytes_of(whole["logprobs"]).startswith(message)


async def test_without_include_there_are_none_and_top_logprobs_is_on_record_as_without_effect() -> None:
    bench = answering("Hi.")
    body = (await create(bench, top_logprobs=3, include=["reasoning.encrypted_content"])).json()
    assert part_of(body)["logprobs"] == []
    assert bench.engine.requests[0].sampling.logprobs is None
    assert bench.ledger.intents[0].ignored == ("include", "top_logprobs")


async def test_what_has_effect_is_not_on_record_as_without() -> None:
    bench = answering("Hi.")
    await create(bench, **WANTED)
    assert bench.ledger.intents[0].ignored == ()


async def test_in_the_background_they_are_on_record_as_without_effect() -> None:
    bench = answering("Hi.")
    await create(bench, **WANTED, background=True)
    assert bench.ledger.intents[0].ignored == ("include", "top_logprobs")


@pytest.mark.parametrize("most", [-1, 21])
async def test_alternatives_are_bounded(most: int) -> None:
    response = await create(templated(), include=WANTED["include"], top_logprobs=most)
    assert (response.status_code, response.json()["error"]["param"]) == (422, "top_logprobs")


async def test_the_vault_holds_none_so_a_response_found_again_has_none() -> None:
    bench = answering("Hi.")
    body = (await create(bench, **WANTED)).json()
    again = (await get(bench, body["id"])).json()
    assert (part_of(body)["text"], part_of(again)["logprobs"]) == (part_of(again)["text"], [])


async def test_a_usage_is_the_same_when_the_same_is_asked_again() -> None:
    bench = answering("Hi.")
    first, second = [(await create(bench)).json()["usage"] for _ in range(2)]
    assert first == second
    assert first["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert first["output_tokens_details"] == {"reasoning_tokens": 0}


@pytest.mark.parametrize("at_once", [1, 2, 5, 1000])
def test_tokens_of_calls_and_reasoning_are_left_out_wherever_the_answer_is_cut(at_once: int) -> None:
    call = '<tool_call>{"name": "add", "arguments": {"a": "Hi"}}</tool_call>'  # of the second, nothing is given
    raw = f"<think>Hi</think> << Hi <<\n{call} Hi é{call}\n".encode()
    calls = parser_for(Dialect.TAGGED, [FUNCTION], "id", several=False)
    tokens = MessageTokens(ByteTokenizer(), answer_parser(Reasoning.IN_ANSWER, calls))
    told: list[TokenLogprob] = []
    shown = 0
    for end in range(at_once, len(raw) + at_once, at_once):
        text = raw[:end].decode(errors="ignore")
        told += tokens.push(text[shown:], [TokenLogprob(token, -0.5) for token in raw[end - at_once : end]])
        shown = len(text)
    told += tokens.finish()
    assert bytes(one.token_id for one in told).decode() == "<< Hi <<Hi é"
