"""The OpenAI surface to the letter: each test is named for what breaks in a client when it does not hold."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from minivault.api.wire.openai import ChatCompletionRequest
from minivault.errors import ModelNotReady
from tests.api.client import client_of
from tests.fakes import Bench, breaks_after, make_bench, says

TURNS = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


async def post(bench: Bench, path: str, body: dict[str, Any], **settings: Any) -> httpx2.Response:
    async with client_of(bench, **settings) as client:
        return await client.post(path, json=body)


async def chat(bench: Bench, **fields: Any) -> httpx2.Response:
    return await post(bench, CHAT, {"model": "fake", "messages": TURNS} | fields)


async def text(bench: Bench, **fields: Any) -> httpx2.Response:
    return await post(bench, TEXT, {"model": "fake", "prompt": "hi"} | fields)


def chunks_of(response: httpx2.Response) -> list[dict[str, Any]]:
    """The events; each must be one ``data:`` line, and the last ``[DONE]``."""
    assert response.headers["content-type"] == "text/event-stream"
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") and "\n" not in event for event in events[:-1])
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def templated(answer: Any = None) -> Bench:
    return make_bench(answer or says("héllo"), template=True)


# -- streams -----------------------------------------------------------------------------------------------------------


async def test_a_chat_stream_gives_role_pieces_reason_usage_in_this_order() -> None:
    chunks = chunks_of(await chat(templated(), stream=True, stream_options={"include_usage": True}))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    pieces, end, usage = chunks[1:-2], chunks[-2], chunks[-1]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in pieces) == "héllo"
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks[:-2]} == {None}
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 19, "completion_tokens": 6, "total_tokens": 25}


async def test_usage_is_null_before_the_usage_chunk_and_absent_when_not_asked_for() -> None:
    asked = chunks_of(await chat(templated(), stream=True, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    for options in (None, {}, {"include_usage": False}):
        chunks = chunks_of(await chat(templated(), stream=True, stream_options=options))
        assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)


async def test_all_chunks_of_a_stream_share_id_created_model_and_fingerprint() -> None:
    chunks = chunks_of(await chat(templated(), stream=True, stream_options={"include_usage": True}))
    for name in ("id", "object", "created", "model", "system_fingerprint"):
        assert len({chunk[name] for chunk in chunks}) == 1
    assert type(chunks[0]["created"]) is int
    assert (chunks[0]["object"], chunks[0]["model"]) == ("chat.completion.chunk", "fake")


async def test_a_stream_has_no_comment_no_event_name_and_no_id_line() -> None:
    response = await chat(templated(), stream=True)
    assert {line[:6] for line in response.text.split("\n") if line} == {"data: "}
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


async def test_a_stream_that_is_cut_at_max_tokens_says_length() -> None:
    chunks = chunks_of(await chat(templated(says("abcdef")), stream=True, max_tokens=3))
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_a_stream_that_breaks_has_an_error_event_and_no_done() -> None:
    response = await chat(templated(breaks_after("part")), stream=True)
    assert "[DONE]" not in response.text
    last = json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert set(last["error"]) == {"message", "type", "param", "code"}


async def test_several_streamed_choices_come_interleaved_each_with_role_and_end() -> None:
    response = await chat(templated(says("abc")), stream=True, n=3, stream_options={"include_usage": True})
    chunks = chunks_of(response)
    choices = [chunk["choices"][0] for chunk in chunks[:-1]]
    for index in range(3):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in own) == "abc"
        assert own[-1]["finish_reason"] == "stop"
    assert [choice["index"] for choice in choices[3:6]] != [0, 0, 0]
    assert chunks[-1]["usage"] == {"prompt_tokens": 19, "completion_tokens": 9, "total_tokens": 28}


async def test_a_text_stream_gives_pieces_then_the_reason_in_a_chunk_of_its_own() -> None:
    chunks = chunks_of(await text(templated(), stream=True, stream_options={"include_usage": True}))
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "héllo"
    assert (chunks[-2]["choices"][0]["text"], chunks[-2]["choices"][0]["finish_reason"]) == ("", "stop")
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 6)


# -- whole answers -----------------------------------------------------------------------------------------------------


async def test_a_whole_chat_answer_has_every_member_that_clients_read() -> None:
    body = (await chat(templated())).json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["system_fingerprint"].startswith("fp_")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "héllo", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 19, "completion_tokens": 6, "total_tokens": 25}


async def test_the_request_id_header_finds_the_record() -> None:
    bench = templated()
    async with client_of(bench) as client:
        response = await client.post(CHAT, json={"messages": TURNS}, headers={"x-request-id": "mine"})
        record = (await client.get("/vault/records/mine")).json()
    assert (response.json()["id"], response.headers["x-request-id"]) == ("chatcmpl-mine", "mine")
    assert (record["surface"], record["response"]) == ("openai", "héllo")
    assert response.headers["minivault-record"]


async def test_the_fingerprint_changes_with_the_weights() -> None:
    bench = templated()
    prints = []
    for digest in ("sha256:00", "sha256:00", "sha256:ff"):
        bench.model.weights_digest = digest
        prints.append((await chat(bench)).json()["system_fingerprint"])
    assert prints[0] == prints[1] != prints[2]


async def test_choice_i_is_the_answer_of_the_seed_plus_i() -> None:
    bench = make_bench(template=True)
    several = (await chat(bench, n=3, seed=7)).json()["choices"]
    alone = [(await chat(bench, seed=seed)).json()["choices"][0]["message"]["content"] for seed in (7, 8, 9)]
    assert [choice["message"]["content"] for choice in several] == alone
    assert [choice["index"] for choice in several] == [0, 1, 2]


async def test_a_negative_seed_is_a_seed() -> None:
    bench = templated()
    assert (await chat(bench, seed=-1)).status_code == 200
    assert bench.engine.requests[0].sampling.seed == 2**63 - 1


# -- what is asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_both_names_of_the_limit_limit(name: str) -> None:
    body = (await chat(templated(says("abcdef")), **{name: 3})).json()
    assert (body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]) == ("abc", "length")


async def test_two_different_limits_are_refused_and_two_equal_ones_are_one() -> None:
    assert (await chat(templated(), max_tokens=3, max_completion_tokens=4)).status_code == 422
    assert (await chat(templated(), max_tokens=3, max_completion_tokens=3)).status_code == 200


async def test_without_a_limit_a_chat_answer_may_fill_the_context_and_a_text_has_16_tokens() -> None:
    bench = templated()
    await chat(bench)
    await text(bench)
    limits = [request.sampling.max_tokens for request in bench.engine.requests]
    assert limits == [1024 - 19, 16]


async def test_a_limit_beyond_the_context_is_refused_and_not_cut() -> None:
    response = await chat(templated(), max_tokens=5000)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "context_length_exceeded")


@pytest.mark.parametrize("stop", [None, [], "", ["", ""]])
async def test_an_empty_stop_means_none(stop: Any) -> None:
    assert (await chat(templated(), stop=stop)).json()["choices"][0]["message"]["content"] == "héllo"


@pytest.mark.parametrize("stop", ["l", ["x", "l"]])
async def test_a_stop_ends_the_answer_before_itself(stop: Any) -> None:
    choice = (await chat(templated(), stop=stop)).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hé", "stop")


NULLS = (
    "stream", "stream_options", "n", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias",
    "stop", "seed", "store", "response_format", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs",
    "tools", "tool_choice", "functions", "function_call", "modalities", "audio", "user", "metadata", "top_k",
)  # fmt: skip


async def test_null_is_the_default_of_every_field() -> None:
    bench = templated()
    assert (await chat(bench, **dict.fromkeys(NULLS))).status_code == 200
    assert bench.ledger.intents[0].ignored == ()


async def test_unknown_fields_do_no_harm_and_are_on_the_record() -> None:
    bench = templated()
    assert (await chat(bench, user="me", reasoning_effort="high", made_up={"a": 1})).status_code == 200
    assert set(bench.ledger.intents[0].ignored) == {"user", "reasoning_effort", "made_up"}


async def test_unknown_parts_of_fields_are_on_the_record_under_their_fields() -> None:
    bench = templated()
    turn = {"role": "user", "content": [{"type": "text", "text": "hi", "mood": 1}], "annotations": None}
    tool = {"type": "function", "function": {"name": "add", "strict": True, "parameters": {"made": "up"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    asked = {"tools": [tool], "stream_options": {"include_obfuscation": False}, "messages": [turn, turn]}
    assert (await chat(bench, **asked)).status_code == 200
    assert set(bench.ledger.intents[0].ignored) == {
        "stream_options.include_obfuscation",
        "messages.content.mood",
        "tools.function.strict",
    }
    asked_for_a_form = ChatCompletionRequest.model_validate({"messages": [turn], "response_format": form})
    assert asked_for_a_form.to_generation(request_id="a", raw_request=b"").ignored == ("messages.content.mood",)


async def test_of_the_tools_those_alone_may_be_called_that_are_allowed() -> None:
    other = {"type": "function", "function": {"name": "sub", "parameters": {"type": "object"}}}
    chosen = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "sub"}}]}
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    bench = templated(says(call))
    choice = {"type": "allowed_tools", "allowed_tools": chosen}
    said = (await chat(bench, tools=[TOOL, other], tool_choice=choice)).json()["choices"][0]
    assert (said["finish_reason"], said["message"]["content"]) == ("stop", call)
    assert b'"name": "add", "param' not in bytes(bench.engine.requests[0].prompt_token_ids)
    assert b'"name": "sub", "param' in bytes(bench.engine.requests[0].prompt_token_ids)
    refused = await chat(bench, tools=[TOOL], tool_choice=choice)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "tool_choice")


async def test_an_answer_is_begun_where_that_is_asked_for() -> None:
    bench = templated()
    turns = [*TURNS, {"role": "assistant", "content": "Very"}]
    assert (await chat(bench, messages=turns, continue_final_message=True)).status_code == 200
    assert (await chat(bench, messages=turns)).status_code == 200
    prompts = [bytes(request.prompt_token_ids) for request in bench.engine.requests]
    assert prompts == [b"<user>hi<assistant>Very", b"<user>hi<assistant>Very<assistant>"]
    held = await chat(bench, messages=turns, continue_final_message=True, response_format={"type": "json_object"})
    assert (held.status_code, held.json()["error"]["param"]) == (422, "messages")


async def test_the_fields_that_local_servers_share_are_honoured() -> None:
    bench = templated()
    fields = {"top_k": 5, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.1, "min_tokens": 2}
    await chat(bench, **fields, ignore_eos=True, stop_token_ids=[7], logit_bias={"65": 5, "66": -1.5})
    sampling = bench.engine.requests[0].sampling
    assert {name: getattr(sampling, name) for name in fields} == fields
    assert (sampling.ignore_eos, sampling.stop_token_ids) == (True, (7,))
    assert sampling.logit_bias == ((65, 5.0), (66, -1.5))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "s3cr3t"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "s3cr3t!"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field_and_not_recorded(fields: dict[str, Any], param: str) -> None:
    bench = templated()
    response = await chat(bench, **fields)
    assert response.status_code == 422
    assert response.json()["error"]["param"].startswith(param)
    assert "s3cr3t" not in response.text
    assert bench.ledger.intents == []


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
async def test_content_may_be_a_list_of_parts_in_every_role(role: str) -> None:
    bench = templated()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert (await chat(bench, messages=[{"role": role, "content": parts}, *TURNS])).status_code == 200
    assert b"a\nb" in bytes(bench.ledger.intents[0].prompt_token_ids)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
async def test_a_part_that_is_no_text_is_refused_clearly(kind: str) -> None:
    part = {"type": kind, kind: {"url": "data:s3cr3t"}}
    response = await chat(templated(), messages=[{"role": "user", "content": [part]}])
    assert (response.status_code, response.json()["error"]["code"]) == (422, "unsupported_feature")
    assert "s3cr3t" not in response.text


@pytest.mark.parametrize("content", [{"content": None}, {}])
async def test_content_may_be_null_or_missing_beside_tool_calls(content: dict[str, Any]) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        *TURNS,
        {"role": "assistant", "tool_calls": [call], **content},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "five", "tool_calls": None},
        *TURNS,
    ]
    assert (await chat(templated(), messages=turns)).status_code == 200


async def test_a_model_that_is_not_served_is_404_with_the_code_that_clients_look_for() -> None:
    response = await chat(templated(), model="gpt-4o")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_while_the_model_loads_clients_are_told_when_to_come_back() -> None:
    bench = templated()
    bench.models.error = ModelNotReady("The model is still loading.", retry_after=1)
    response = await chat(bench)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_store_false_keeps_no_content() -> None:
    bench = templated()
    await chat(bench, store=False)
    await chat(bench, store=None)
    assert [intent.store for intent in bench.ledger.intents] == [False, True]


# -- tools -------------------------------------------------------------------------------------------------------------

CALLS = (
    'Well.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>{"name": "add"}</tool_call>'
)


async def test_calls_come_beside_the_words_with_arguments_as_a_string() -> None:
    choice = (await chat(templated(says(CALLS)), tools=[TOOL])).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Well.", "tool_calls")
    first, second = choice["message"]["tool_calls"]
    assert (first["type"], first["function"]) == ("function", {"name": "add", "arguments": '{"a": 1}'})
    assert first["id"] != second["id"]


async def test_content_is_null_beside_calls_alone() -> None:
    answer = says('<tool_call>{"name": "add"}</tool_call>')
    assert (await chat(templated(answer), tools=[TOOL])).json()["choices"][0]["message"]["content"] is None


async def test_streamed_calls_carry_an_index_and_equal_the_whole_ones() -> None:
    whole = (await chat(templated(says(CALLS)), tools=[TOOL])).json()["choices"][0]["message"]["tool_calls"]
    chunks = chunks_of(await chat(templated(says(CALLS, at_once=3)), tools=[TOOL], stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [call["index"] for call in calls] == [0, 1]
    assert [call["function"] for call in calls] == [call["function"] for call in whole]
    assert "".join(delta.get("content", "") for delta in deltas) == "Well."
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_answer_cut_inside_a_call_says_length_and_loses_nothing() -> None:
    chunks = chunks_of(await chat(templated(says(CALLS)), tools=[TOOL], stream=True, max_tokens=30))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == CALLS[:30]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_without_tools_what_looks_like_a_call_is_text() -> None:
    asked: list[dict[str, Any]] = [{}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}]
    for fields in asked:
        choice = (await chat(templated(says(CALLS)), **fields)).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (CALLS, "stop")
        assert "tool_calls" not in choice["message"]


async def test_the_record_holds_what_the_model_wrote() -> None:
    bench = templated(says(CALLS))
    await chat(bench, tools=[TOOL])
    assert bench.outcome.response_text == CALLS


# -- log-probabilities -------------------------------------------------------------------------------------------------


async def test_chat_logprobs_carry_the_bytes_of_split_characters() -> None:
    answer = says("é", logprobs=True)
    content = (await chat(templated(answer), logprobs=True, top_logprobs=2)).json()["choices"][0]["logprobs"]["content"]
    assert bytes(byte for token in content for byte in token["bytes"]).decode() == "é"
    assert [set(token) for token in content] == [{"token", "logprob", "bytes", "top_logprobs"}] * 2
    assert len(content[0]["top_logprobs"]) == 2


async def test_streamed_chat_logprobs_equal_the_whole_ones() -> None:
    answer = says("héllo", logprobs=True)
    whole = (await chat(templated(answer), logprobs=True)).json()["choices"][0]["logprobs"]["content"]
    chunks = chunks_of(await chat(templated(answer), logprobs=True, stream=True))
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [token for one in told if one is not None for token in one["content"]] == whole


@pytest.mark.parametrize("answer", [CALLS, "words", CALLS[:-8], "words\n<tool_call>"])
async def test_no_logprob_of_a_stream_is_lost_where_tools_are_read(answer: str) -> None:
    said = says(answer, logprobs=True)
    whole = (await chat(templated(said), logprobs=True, tools=[TOOL])).json()["choices"][0]["logprobs"]["content"]
    chunks = chunks_of(await chat(templated(said), logprobs=True, tools=[TOOL], stream=True))
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [token for one in told if one is not None for token in one["content"]] == whole
    assert len(whole) == len(answer)


async def test_text_logprobs_have_offsets_into_the_text() -> None:
    logprobs = (await text(templated(says("aéb", logprobs=True)), logprobs=1)).json()["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b"]
    assert logprobs["text_offset"] == [0, 1, 1, 2]
    assert logprobs["token_logprobs"] == [-0.5] * 4
    assert set(logprobs["top_logprobs"][0]) == {"a", "\x00"}


# -- text completions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([97, 98], ["ab"]),
        ([[97, 98], [99]], ["ab", "c"]),
    ],
)
async def test_prompts_are_text_or_tokens_one_or_many(prompt: Any, given: list[str]) -> None:
    bench = templated()
    body = (await text(bench, prompt=prompt)).json()
    assert [choice["index"] for choice in body["choices"]] == list(range(len(given)))
    assert [intent.prompt_text for intent in bench.ledger.intents] == given
    assert body["usage"]["prompt_tokens"] == sum(len(i.prompt_token_ids) for i in bench.ledger.intents)


@pytest.mark.parametrize("prompt", [5, None, [[]], ["a", 5], [1, -1], [["a"]], [1.5]])
async def test_a_prompt_in_no_known_way_is_told_the_ways(prompt: Any) -> None:
    error = (await text(templated(), prompt=prompt)).json()["error"]
    assert error["param"] == "prompt"
    assert "must be text, token ids, or a list" in error["message"]


async def test_choices_of_several_prompts_are_numbered_through_and_prompts_counted_once() -> None:
    body = (await text(templated(), prompt=["a", "b"], n=2)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 4


async def test_echo_puts_the_prompt_first_whole_and_in_pieces() -> None:
    assert (await text(templated(), echo=True)).json()["choices"][0]["text"] == "hihéllo"
    chunks = chunks_of(await text(templated(), echo=True, stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "hihéllo"


@pytest.mark.parametrize(
    "fields",
    [{"suffix": "x"}, {"best_of": 3}, {"echo": True, "logprobs": 1}, {"prompt": []}, {"prompt": ["a"] * 65, "n": 2}],
)
async def test_text_completions_refuse_what_they_cannot_do(fields: dict[str, Any]) -> None:
    assert (await text(templated(), **fields)).status_code == 422


# -- models ------------------------------------------------------------------------------------------------------------


async def test_models_are_a_list_and_each_is_found_by_its_id() -> None:
    async with client_of(templated()) as client:
        listed = (await client.get("/v1/models")).json()
        one = (await client.get("/v1/models/fake")).json()
        none = await client.get("/v1/models/other/model")
    assert listed == {"object": "list", "data": [one]}
    assert set(one) == {"id", "object", "created", "owned_by"}
    assert one["created"] == 1767225600
    assert (none.status_code, none.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}),
    ],
)
async def test_a_name_with_ollamas_tag_is_the_name(path: str, body: dict[str, Any]) -> None:
    async with client_of(templated(says("a"))) as client:
        answers = [await client.post(path, json=body | {"model": name}) for name in ("fake:latest", ":latest")]
        listed = await client.get("/v1/models/fake:latest")
    assert [answer.status_code for answer in answers] == [200, 404]
    assert (answers[0].json()["model"], listed.json()["id"]) == ("fake", "fake")
