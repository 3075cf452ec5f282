"""The remote engine against servers with a script: what it sends on, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minivault.errors import InvalidRequest
from minivault.generation import FinishReason, GenerationRequest, Message, ToolCall, Usage
from minivault.models.remote_config import RemoteConfig
from tests.engine.remote import ASKED, SAMPLING, TOOL, ask, engine_for, hear
from tests.engine.upstream import delta, events, refuses, says, serving


async def test_an_answer_comes_in_pieces_with_the_servers_own_counts() -> None:
    async with serving(says("Hel", "lo ✓")) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine)
    assert heard.text == "Hello ✓"
    assert (heard.end.finish_reason, heard.end.usage) == (FinishReason.STOP, Usage(11, 3))
    assert len(heard.steps) == 3


async def test_only_what_was_given_is_sent_on() -> None:
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine)
        sampling = replace(
            SAMPLING,
            temperature=0.0,
            top_k=4,
            repetition_penalty=1.1,
            stop=("END",),
            min_tokens=2,
            logit_bias=((5, -1.0),),
        )
        await hear(engine, sampling=sampling)
    plain, full = upstream.bodies
    assert plain == {
        "model": "theirs", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 64, "seed": 7,
        "messages": [{"role": "user", "content": "hi"}],
    }  # fmt: skip
    assert {name: full[name] for name in full.keys() - plain.keys()} == {
        "temperature": 0.0, "top_k": 4, "repetition_penalty": 1.1, "repeat_penalty": 1.1, "stop": ["END"],
        "min_tokens": 2, "logit_bias": {"5": -1.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "fit", "sent"),
    [(1_000_000, True, {}), (1_000_000, False, {"max_tokens": 1_000_000}), (9, True, {"max_tokens": 9})],
    ids=["as many as fit", "given", "given, to be cut"],
)
async def test_a_limit_is_sent_where_there_is_one(given: int, fit: bool, sent: dict[str, int]) -> None:
    sampling = replace(SAMPLING, max_tokens=given)
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine, replace(ASKED, sampling=sampling, fit=fit), sampling)
    assert {name: value for name, value in upstream.bodies[0].items() if name == "max_tokens"} == sent


async def test_a_conversation_with_tools_is_sent_on_whole() -> None:
    turns = (
        Message("user", "1+2?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "add", '{"a": 1}'),), thinking="easy"),
        Message("tool", "3", tool_call_id="c1"),
    )
    asked = GenerationRequest(messages=turns, system="be brief", tools=(TOOL,), tool_choice="named:add", think=False)
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine, asked)
    body = upstream.bodies[0]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1+2?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
            "reasoning_content": "easy",
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]
    assert (body["tools"], body["tool_choice"]) == ([TOOL], {"type": "function", "function": {"name": "add"}})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


async def test_a_bare_prompt_goes_to_completions() -> None:
    reply = events({"choices": [{"index": 0, "text": " upon"}]}, {"choices": [{"text": "", "finish_reason": "length"}]})
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine, GenerationRequest(prompt="Once", raw=True))
    assert (heard.text, heard.end.finish_reason) == (" upon", FinishReason.LENGTH)
    sent = next(asked for asked in upstream.asked if asked.method == "POST")
    assert (sent.path, sent.body["prompt"]) == ("/v1/completions", "Once")


async def test_without_counts_the_pieces_are_counted() -> None:
    async with serving(says("a", "b", usage=None)) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).end.usage == Usage(0, 2)


async def test_a_form_is_asked_of_the_server() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine, replace(ASKED, response_format=form))
    assert upstream.bodies[0]["response_format"] == form


async def test_calls_of_tools_become_the_text_that_every_surface_reads() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return delta({"tool_calls": [{"index": index, "function": function}]})

    reply = events(
        delta({"content": "Well."}),
        call(0, name="add", arguments=""),
        call(0, arguments='{"a": '),
        call(0, arguments="1}"),
        call(1, name="stop"),
        delta({}, "tool_calls"),
    )
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine, replace(ASKED, tools=(TOOL,)))
    assert heard.text == (
        'Well.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    )
    assert heard.end.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_told_apart_from_the_answer(name: str) -> None:
    reply = events(delta({name: "let me"}), delta({name: " see"}), delta({"content": "42"}), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).text == "<think>let me see</think>\n42"


async def test_log_probabilities_keep_the_servers_own_tokens() -> None:
    best = {"token": " é", "logprob": -0.5}
    told = {"content": [best | {"bytes": [32, 195, 169], "top_logprobs": [best, {"token": "e", "logprob": -2.0}]}]}
    reply = events(delta({"content": " é"}, logprobs=told), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        stream, words = ask(engine, sampling=replace(SAMPLING, logprobs=2))
        steps = [step async for step in stream]
    found = steps[0].logprobs[0]
    assert (words.token_bytes(found.token_id), found.logprob) == (" é".encode(), -0.5)
    assert [(words.token_text(token), value) for token, value in found.top] == [(" é", -0.5), ("e", -2.0)]
    assert (upstream.bodies[0]["logprobs"], upstream.bodies[0]["top_logprobs"]) == (True, 2)


async def test_a_stop_string_that_the_server_names_is_told() -> None:
    reply = events(delta({"content": "one "}), delta({}, "stop", stop_reason="END"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine, sampling=replace(SAMPLING, stop=("END",)))).text == "one END"


async def test_a_server_that_does_not_stream_is_understood() -> None:
    whole = {"choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 2, "completion_tokens": 4}}  # fmt: skip
    async with serving(refuses(200, whole)) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine)
    assert (heard.text, heard.end.usage) == ("all at once", Usage(2, 4))


async def test_the_credential_is_sent_and_never_shown() -> None:
    async with serving() as upstream, engine_for(upstream, api_key="sk-secret") as engine:
        await hear(engine)
        assert upstream.asked[-1].headers["authorization"] == "Bearer sk-secret"
        assert "secret" not in repr(engine.stats())


# -- what is kept


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://host/v1", "http"),
        ("http://user:pass@host/v1", "credentials"),
        ("http://host/v1?key=x", "credentials"),
        ("host:8080", "http"),
        ("http://host:99999/v1", "http"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word) as caught:
        RemoteConfig((url,), "m")
    assert "pass@" not in caught.value.message


def test_what_is_kept_is_read_back() -> None:
    config = RemoteConfig(("http://a:1/v1", "http://b:2/v1"), "m", api_key_env="KEY", max_in_flight=4)
    assert RemoteConfig.from_json(config.to_json()) == config
