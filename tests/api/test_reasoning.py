"""Reasoning on every surface: split from the answer, whole and streamed, and on the record as the model wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.client import client_of
from tests.fakes import Bench, TurnTemplate, make_bench, says

THOUGHT = "Two < three, I think."
WORDS = "Yes.\n"
RAW = f"<think>\n{THOUGHT}\n</think>\n\n{WORDS}"
TURNS = [{"role": "user", "content": "hi"}]
CHAT: Any = {"model": "fake", "messages": TURNS}


def thinker(raw: str = RAW, at_once: int = 1) -> Bench:
    bench = make_bench(says(raw, at_once=at_once))
    bench.model.chat_template = TurnTemplate(reasons=True)
    return bench


async def ask(bench: Bench, path: str, **fields: Any) -> str:
    async with client_of(bench) as client:
        response = await client.post(path, json=CHAT | fields)
    assert response.status_code == 200, response.text
    return response.text


def events_of(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


async def test_a_chat_answer_has_its_reasoning_apart() -> None:
    bench = thinker()
    message = json.loads(await ask(bench, "/v1/chat/completions"))["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, WORDS)
    assert bench.outcome.response_text == RAW


@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_a_chat_stream_gives_reasoning_then_words_and_no_part_of_a_tag(at_once: int) -> None:
    bench = thinker(at_once=at_once)
    events = events_of(await ask(bench, "/v1/chat/completions", stream=True))
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == THOUGHT
    assert "".join(delta.get("content", "") for delta in deltas) == WORDS
    assert bench.outcome.response_text == RAW


async def test_reasoning_that_is_turned_off_is_told_to_the_template() -> None:
    for fields in ({"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}):
        bench = thinker(WORDS)
        message = json.loads(await ask(bench, "/v1/chat/completions", **fields))["choices"][0]["message"]
        assert message == {"role": "assistant", "content": WORDS, "refusal": None}
        assert bench.ledger.intents[0].ignored == ()
        assert bytes(bench.engine.requests[0].prompt_token_ids).endswith(b"<think></think>")


async def test_a_model_whose_template_knows_no_reasoning_keeps_its_tags() -> None:
    bench = make_bench(says(RAW), template=True)
    message = json.loads(await ask(bench, "/v1/chat/completions"))["choices"][0]["message"]
    assert message["content"] == RAW


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_ollama_has_it_as_thinking_whole_and_streamed(path: str) -> None:
    def said(line: dict[str, Any]) -> dict[str, Any]:
        return line if path == "/api/generate" else line["message"]

    words = "response" if path == "/api/generate" else "content"
    whole = said(json.loads(await ask(thinker(), path, prompt="hi", stream=False)))
    assert (whole["thinking"], whole[words]) == (THOUGHT, WORDS)
    lines = [said(json.loads(line)) for line in (await ask(thinker(), path, prompt="hi")).splitlines()]
    assert "".join(line.get("thinking", "") for line in lines) == THOUGHT
    assert "".join(line[words] for line in lines) == WORDS


async def test_ollama_shows_no_thinking_when_it_is_off() -> None:
    bench = thinker()
    bench.model.chat_template = TurnTemplate(reasons=True)
    text = await ask(bench, "/api/chat", think=False)
    assert "thinking" not in text


async def test_anthropic_gives_a_thinking_block_when_it_is_asked_for() -> None:
    asked: Any = {"max_tokens": 200, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    bench = thinker()
    content = json.loads(await ask(bench, "/v1/messages", **asked))["content"]
    assert content == [
        {"type": "thinking", "thinking": THOUGHT, "signature": ""},
        {"type": "text", "text": WORDS},
    ]
    assert bench.ledger.intents[0].ignored == ("thinking.budget_tokens",)
    events = events_of(await ask(thinker(), "/v1/messages", stream=True, **asked))
    blocks = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert blocks == ["thinking", "text"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == THOUGHT
    assert "".join(delta.get("text", "") for delta in deltas) == WORDS


async def test_anthropic_gives_words_alone_when_it_is_not_asked_for() -> None:
    bench = thinker(WORDS)
    content = json.loads(await ask(bench, "/v1/messages", max_tokens=200))["content"]
    assert content == [{"type": "text", "text": WORDS}]


async def test_anthropic_takes_its_thinking_blocks_back() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""},
                                          {"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "Sure?"},
    ]  # fmt: skip
    bench = thinker()
    await ask(bench, "/v1/messages", max_tokens=200, messages=turns)
    assert bytes(bench.engine.requests[0].prompt_token_ids).startswith(b"<user>hi<assistant>Yes.<user>Sure?")


async def test_responses_have_a_reasoning_item_and_keep_it() -> None:
    bench = thinker()
    async with client_of(bench) as client:
        body = (await client.post("/v1/responses", json={"model": "fake", "input": "hi"})).json()
        kept = (await client.get(f"/v1/responses/{body['id']}")).json()
    thought, message = body["output"]
    assert (thought["type"], thought["content"][0]["text"]) == ("reasoning", THOUGHT)
    assert message["content"][0]["text"] == WORDS
    assert kept["output"] == body["output"]


async def test_streamed_responses_add_up_to_the_same_items() -> None:
    async with client_of(thinker()) as client:
        text = (await client.post("/v1/responses", json={"model": "fake", "input": "hi", "stream": True})).text
    events = events_of(text)
    thought = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert thought == THOUGHT
    assert events[-1]["response"]["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message"]


async def test_an_answer_held_to_a_form_does_not_reason() -> None:
    bench = thinker('{"a": 1}')
    bench.model.grammars = _NoGrammar()
    form = {"type": "json_object"}
    message = json.loads(await ask(bench, "/v1/chat/completions", response_format=form))["choices"][0]["message"]
    assert message["content"] == '{"a": 1}'
    assert bytes(bench.engine.requests[0].prompt_token_ids).endswith(b"<think></think>")


class _NoGrammar:
    """Takes every form, and holds to none."""

    version = "none"

    def prepare(self) -> None:
        pass

    def compile(self, kind: str, source: str = "", /) -> None:
        return None
