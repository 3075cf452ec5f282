"""The Anthropic surface over fakes: its events in order, why an answer ended, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from minivault.api.wire.anthropic_answers import model_info, model_page
from minivault.generation import FinishReason
from tests.api.client import client_of
from tests.api.test_socket import serving
from tests.fakes import breaks_after, make_bench, says, until

ASK = {"model": "fake", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TURNS = [{"role": "user", "content": "hi"}]
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
NONE_CACHED = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
HEADERS = {"x-api-key": "anything", "anthropic-version": "2023-06-01", "anthropic-beta": "never-heard-of-it"}


def events_of(response: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    assert response.headers["content-type"] == "text/event-stream"
    frames = response.content.decode().split("\n\n")
    assert frames.pop() == ""
    split = [frame.split("\n") for frame in frames]
    assert all(len(lines) == 2 for lines in split)
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in split]


def text_of(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")


async def test_the_events_come_in_the_order_that_the_wire_promises() -> None:
    async with client_of(make_bench(says("ab"), template=True)) as client:
        events = events_of(await client.post("/v1/messages", json=ASK | {"stream": True}, headers=HEADERS))
    assert [name for name, _ in events] == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(data["type"] == name for name, data in events)
    message = events[0][1]["message"]
    assert (message["content"], message["stop_reason"], message["role"]) == ([], None, "assistant")
    assert message["usage"] == NONE_CACHED | {"input_tokens": 19, "output_tokens": 0}
    assert text_of(events) == "ab"
    assert events[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2][1]["usage"] == NONE_CACHED | {"input_tokens": 19, "output_tokens": 2}


async def test_the_whole_message_has_all_that_the_wire_names() -> None:
    async with client_of(make_bench(says("hello"), template=True)) as client:
        response = await client.post("/v1/messages", json=ASK, headers=HEADERS)
    assert response.json() == {
        "id": f"msg_{response.headers['x-request-id']}",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": NONE_CACHED | {"input_tokens": 19, "output_tokens": 5},
    }
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert response.headers["minivault-record"].startswith("1:")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "end", "expected"),
    [
        ({}, FinishReason.STOP, ("end_turn", None)),
        ({"stop_sequences": ["zzz", "lo w"]}, FinishReason.STOP, ("stop_sequence", "lo w")),
        ({"stop_sequences": ["zzz", ""]}, FinishReason.STOP, ("end_turn", None)),
        ({"max_tokens": 3}, FinishReason.STOP, ("max_tokens", None)),
        ({"max_tokens": 5000}, FinishReason.LENGTH, ("model_context_window_exceeded", None)),
    ],
)
async def test_why_the_answer_ended(stream: bool, fields: Any, end: FinishReason, expected: Any) -> None:
    async with client_of(make_bench(says("hello world", end=end), template=True)) as client:
        response = await client.post("/v1/messages", json=ASK | fields | {"stream": stream})
    said = events_of(response)[-2][1]["delta"] if stream else response.json()
    assert (said["stop_reason"], said["stop_sequence"]) == expected


async def test_a_max_tokens_beyond_the_context_is_cut_to_what_fits() -> None:
    bench = make_bench(says("x"), template=True)
    async with client_of(bench) as client:
        assert (await client.post("/v1/messages", json=ASK | {"max_tokens": 64_000})).status_code == 200
    assert bench.engine.requests[0].sampling.max_tokens == 1024 - 19


async def test_system_and_content_may_be_texts_or_blocks() -> None:
    bench = make_bench(template=True)
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]
    ask = ASK | {"system": blocks, "messages": [{"role": "user", "content": blocks}]}
    async with client_of(bench) as client:
        await client.post("/v1/messages", json=ask)
        await client.post("/v1/messages", json=ASK | {"system": "a\nb", "messages": [{"role": "user", "content": "c"}]})
    first, second = (bytes(request.prompt_token_ids) for request in bench.engine.requests)
    assert first == b"<system>a\nb<user>a\nb<assistant>"
    assert second == b"<system>a\nb<user>c<assistant>"
    assert bench.ledger.intents[0].ignored == ("messages.content.cache_control", "system.cache_control")


async def test_parts_of_tools_without_effect_are_on_record() -> None:
    bench = make_bench(template=True)
    tool = {"name": "add", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    ask = ASK | {"tools": [tool], "tool_choice": {"type": "auto", "mood": 1}, "output_config": {"effort": "low"}}
    async with client_of(bench) as client:
        assert (await client.post("/v1/messages", json=ask)).status_code == 200
    assert set(bench.ledger.intents[0].ignored) == {"tools.cache_control", "tool_choice.mood", "output_config.effort"}


async def test_a_last_turn_of_the_assistant_is_the_beginning_of_the_answer() -> None:
    bench = make_bench(says('"a": 1}'), template=True)
    begun = {"role": "assistant", "content": [{"type": "text", "text": "{"}]}
    ask = ASK | {"messages": [{"role": "user", "content": "hi"}, begun]}
    async with client_of(bench) as client:
        body = (await client.post("/v1/messages", json=ask)).json()
        counted = await client.post("/v1/messages/count_tokens", json={**ask, "max_tokens": None})
    assert body["content"] == [{"type": "text", "text": '"a": 1}'}]
    assert bytes(bench.engine.requests[0].prompt_token_ids) == b"<user>hi<assistant>{"
    assert counted.json()["input_tokens"] == body["usage"]["input_tokens"]


async def test_what_was_begun_with_a_call_is_refused() -> None:
    call = {"type": "tool_use", "id": "t", "name": "add", "input": {}}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}]
    async with client_of(make_bench(template=True)) as client:
        refused = await client.post("/v1/messages", json=ASK | {"messages": turns})
    assert (refused.status_code, "words alone" in refused.json()["error"]["message"]) == (422, True)


async def test_a_conversation_keeps_its_turns() -> None:
    bench = make_bench(template=True)
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": content} for role, content in turns]
    async with client_of(bench) as client:
        await client.post("/v1/messages", json=ASK | {"messages": messages})
    assert bytes(bench.engine.requests[0].prompt_token_ids) == b"<user>a<assistant>b<user>c<assistant>"


async def test_the_parameters_reach_the_engine_and_the_rest_is_listed() -> None:
    bench = make_bench(template=True)
    fields = {
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.6,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "seed": 7,
    }
    async with client_of(bench) as client:
        await client.post("/v1/messages", json=ASK | fields | {"service_tier": "auto"})
    sampling = bench.engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.stop) == (0.5, 4, 0.6, ("END",))
    assert (sampling.max_tokens, sampling.seed) == (100, 7)
    assert (bench.ledger.intents[0].surface, bench.ledger.intents[0].ignored) == (
        "anthropic",
        ("metadata", "service_tier"),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens: must be an integer from 1 to 1000000"),
        ({"temperature": 1.5}, "temperature: must be a number from 0 to 1"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": "s3cr3t"}, "stop_sequences"),
        ({"stop_sequences": ["s3cr3t"] * 17}, "at most 16"),
        ({"messages": []}, "a list of 1 to 100000 items"),
        ({"messages": "s3cr3t"}, "messages"),
        ({"messages": [{"role": "s3cr3t", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": "s3cr3t"}]}]}, "type image"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "earlier tool_use"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "type tool_use"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}, *TURNS]}, "an id and a name"),
        ({"messages": [{"role": "user", "content": [{"type": "s3cr3t"}]}]}, "this type"),
        ({"messages": [{"role": "assistant", "content": "s3cr3t"}]}, "assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "type text must have a text"),
        ({"system": [{"type": "text"}]}, "system: a block of type text must have a text"),
        ({"system": [{"type": "image"}]}, "system"),
        ({"tools": [{"name": "s3cr3t name"}]}, "tools.0.name"),
        ({"tools": [{"name": "web_search", "type": "web_search_20250305"}]}, "no tools of its own"),
        ({"tool_choice": {"type": "any"}}, "tools must offer one"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "s3cr3t"}}, "not one of tools"),
        ({"tools": [TOOL], "output_format": {"type": "json_schema", "schema": {}}}, "cannot hold"),
        ({"mcp_servers": [{"url": "s3cr3t"}]}, "calls no other"),
        ({"thinking": {"type": "s3cr3t"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "s3cr3t"}}}, "output_config.format.type"),
    ],
)
async def test_what_is_refused_is_named_in_anthropics_shape(change: dict[str, Any], said: str) -> None:
    bench = make_bench(template=True)
    async with client_of(bench) as client:
        response = await client.post("/v1/messages", json=ASK | change)
    body = response.json()
    assert (response.status_code, body["type"], set(body)) == (422, "error", {"type", "error"})
    assert body["error"]["type"] == "invalid_request_error"
    assert said in body["error"]["message"]
    assert "s3cr3t" not in response.text
    assert bench.ledger.intents == []


async def test_fields_that_ask_for_nothing_are_taken() -> None:
    nothing: dict[str, Any] = {"tools": [], "thinking": {"type": "disabled"}, "stream": None}
    nothing["tool_choice"] = {"type": "auto"}
    async with client_of(make_bench(template=True)) as client:
        assert (await client.post("/v1/messages", json=ASK | nothing)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind"),
    [
        ({"content-type": "application/json"}, b"{", 400, "invalid_request_error"),
        ({"content-type": "text/plain"}, b"{}", 415, "invalid_request_error"),
        ({"content-type": "application/json"}, b" " * (1 << 21), 413, "request_too_large"),
        ({"origin": "https://example.com"}, b"{}", 403, "permission_error"),
        (
            {"content-type": "application/json"},
            json.dumps(ASK | {"model": "nope"}).encode(),
            404,
            "not_found_error",
        ),
    ],
)
async def test_errors_have_the_types_that_the_sdk_knows(headers: Any, body: bytes, status: int, kind: str) -> None:
    async with client_of(make_bench(template=True)) as client:
        response = await client.post("/v1/messages", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
    assert response.json()["type"] == "error"


async def test_a_server_that_cannot_take_more_is_overloaded_and_says_when_to_come_back() -> None:
    bench = make_bench(template=True)
    await bench.service.drain(0)
    async with client_of(bench) as client:
        response = await client.post("/v1/messages", json=ASK)
    assert (response.status_code, response.json()["error"]["type"]) == (503, "overloaded_error")
    assert "retry-after" in response.headers


async def test_a_failure_in_the_middle_is_an_error_event_and_no_end() -> None:
    async with client_of(make_bench(breaks_after("part"), template=True)) as client:
        events = events_of(await client.post("/v1/messages", json=ASK | {"stream": True}))
    assert [name for name, _ in events][2:] == ["ping", "content_block_delta", "error"]
    assert events[-1][1] == {"type": "error", "error": {"type": "api_error", "message": "the engine broke"}}


async def test_an_outcome_that_cannot_be_written_gives_no_end() -> None:
    bench = make_bench(says("a"), template=True)
    bench.ledger.faults = ["outcome"]
    async with client_of(bench) as client:
        events = events_of(await client.post("/v1/messages", json=ASK | {"stream": True}))
    assert [name for name, _ in events][3:] == ["content_block_delta", "error"]
    assert events[-1][1]["error"]["type"] == "overloaded_error"


async def test_tokens_are_counted_as_they_would_be_given_and_nothing_is_recorded() -> None:
    bench = make_bench(template=True)
    async with client_of(bench) as client:
        ask = {"model": "fake", "system": "be", "messages": ASK["messages"]}
        counted = await client.post("/v1/messages/count_tokens", json=ask)
        answered = await client.post("/v1/messages", json=ask | {"max_tokens": 1})
        refused = await client.post("/v1/messages/count_tokens", json=ask | {"model": "nope"})
    assert counted.json() == {"input_tokens": answered.json()["usage"]["input_tokens"]}
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
    assert len(bench.ledger.intents) == 1


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/messages/count_tokens"])
async def test_other_paths_and_methods_speak_anthropics_shape(path: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.get(path)
    assert response.status_code in (404, 405)
    assert response.json()["type"] == "error"


async def test_the_message_starts_before_its_first_token_is_made() -> None:
    bench = make_bench(says("ab"), template=True)
    bench.engine.hold_after = 0
    ask = ASK | {"stream": True}
    async with serving(bench) as client, client.stream("POST", "/v1/messages", json=ask) as response:
        lines = response.aiter_lines()
        begun = [await anext(lines) for _ in range(7)]
        bench.engine.release()
        rest = [line async for line in lines]
    assert [line for line in begun if line.startswith("event")] == [
        "event: message_start", "event: content_block_start", "event: ping",
    ]  # fmt: skip
    assert "event: message_stop" in rest


async def test_hanging_up_cancels_and_is_recorded_with_what_was_sent() -> None:
    bench = make_bench(says("abcdef"), template=True)
    bench.engine.hold_after = 2
    async with serving(bench) as client:
        async with client.stream("POST", "/v1/messages", json=ASK | {"stream": True}) as response:
            async for line in response.aiter_lines():
                if '"text": "b"' in line:
                    break
        await until(lambda: bench.ledger.outcomes)
    assert (bench.outcome.finish_reason, bench.outcome.response_text) == ("cancelled", "ab")


@pytest.mark.parametrize("at_once", [1, 1000])
async def test_a_call_of_a_tool_is_a_block_of_its_own(at_once: int) -> None:
    answer = says(f"Sure. {CALL}", at_once=at_once)
    async with client_of(make_bench(answer, template=True)) as client:
        whole = (await client.post("/v1/messages", json=ASK | {"tools": [TOOL]})).json()
        events = events_of(await client.post("/v1/messages", json=ASK | {"tools": [TOOL], "stream": True}))
    words, call = whole["content"]
    assert words == {"type": "text", "text": "Sure."}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "weather", {"city": "Bern"})
    assert whole["stop_reason"] == "tool_use"
    names = [name for name, _ in events if name != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert names == ["message_start", "ping", *block, *block, "message_delta", "message_stop"]
    deltas = [data["delta"] for name, data in events if name == "content_block_delta" and data["index"] == 1]
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"city": "Bern"}'}]
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"


async def test_an_answer_that_only_calls_has_no_words() -> None:
    ask = ASK | {"tools": [TOOL], "max_tokens": 400}
    async with client_of(make_bench(says(CALL + CALL), template=True)) as client:
        both = (await client.post("/v1/messages", json=ask)).json()
        ask["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        one = (await client.post("/v1/messages", json=ask)).json()
    assert [block["type"] for block in both["content"]] == ["tool_use", "tool_use"]
    assert both["content"][0]["id"] != both["content"][1]["id"]
    assert [block["type"] for block in one["content"]] == ["tool_use"]


async def test_a_conversation_with_tools_goes_through_the_template() -> None:
    bench = make_bench(says("It is sunny."), template=True)
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]}
    turns = [
        *TURNS,
        {"role": "assistant", "content": [{"type": "text", "text": "Sure."}, call]},
        {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
    ]
    async with client_of(bench) as client:
        answer = (await client.post("/v1/messages", json=ASK | {"messages": turns, "tools": [TOOL]})).json()
        counted = await client.post("/v1/messages/count_tokens", json=ASK | {"messages": turns, "tools": [TOOL]})
    prompt = bytes(bench.engine.requests[0].prompt_token_ids).decode()
    assert prompt.index("Sure.") < prompt.index('{"city": "Bern"}') < prompt.index("sun") < prompt.index("And?")
    assert (answer["stop_reason"], answer["content"][0]["text"]) == ("end_turn", "It is sunny.")
    assert counted.json()["input_tokens"] == len(bench.engine.requests[0].prompt_token_ids)


@pytest.mark.parametrize(
    ("asked", "ids", "more"),
    [
        ({}, ["a", "b", "c"], False),
        ({"limit": 2}, ["a", "b"], True),
        ({"limit": 2, "after_id": "b"}, ["c"], False),
        ({"limit": 1, "before_id": "c"}, ["b"], True),
        ({"before_id": "a"}, [], False),
    ],
)
def test_a_page_of_models_says_where_it_begins_and_ends(asked: dict[str, Any], ids: list[str], more: bool) -> None:
    infos = [model_info(name, "2026-11-21T00:00:00Z") for name in "abc"]
    page = model_page(infos, asked.get("limit", 20), asked.get("after_id"), asked.get("before_id"))
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids, more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


async def test_models_are_listed_in_the_form_of_the_client_that_asks() -> None:
    headers = {"anthropic-version": "2023-06-01"}
    async with client_of(make_bench()) as client:
        openai = (await client.get("/v1/models")).json()
        anthropic = (await client.get("/v1/models", headers=headers)).json()
        one = (await client.get("/v1/models/fake", headers=headers)).json()
        wrong = await client.get("/v1/models?after_id=s3cr3t", headers=headers)
    assert (openai["object"], openai["data"][0]["object"]) == ("list", "model")
    assert (anthropic["first_id"], anthropic["data"]) == ("fake", [one])
    assert (one["type"], one["id"], one["created_at"]) == ("model", "fake", "2026-01-01T00:00:00.000Z")
    assert (wrong.status_code, "s3cr3t" in wrong.text) == (422, False)


async def test_a_budget_of_thinking_is_taken_and_the_record_says_that_it_had_no_effect() -> None:
    bench = make_bench(template=True)
    body = {"model": "fake", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    async with client_of(bench) as client:
        thinking = {"type": "enabled", "budget_tokens": 3}
        assert (await client.post("/v1/messages", json=body | {"thinking": thinking})).status_code == 200
    assert bench.ledger.intents[-1].ignored == ("thinking.budget_tokens",)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/messages", ASK, 200),
        ("/v1/messages", ASK | {"max_tokens": 0}, 422),
        ("/v1/messages", ASK | {"model": "none"}, 404),
        ("/v1/messages/count_tokens", {"model": "fake", "messages": ASK["messages"]}, 200),
    ],
)
async def test_every_answer_has_its_id_where_the_package_looks_for_it(path: str, body: Any, status: int) -> None:
    async with client_of(make_bench()) as client:
        answer = await client.post(path, json=body, headers={"x-request-id": "r9"})
        other = await client.get("/livez")
    assert (answer.status_code, answer.headers["request-id"]) == (status, "r9")
    assert "request-id" not in other.headers
