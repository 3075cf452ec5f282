"""The Responses part of the OpenAI surface: streams that add up, and conversations that go on from the vault."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx2
import pytest

from minivault.api import earlier, responses
from minivault.api.wire.responses import ResponsesRequest
from minivault.service import EarlierCall
from tests.api.client import client_of
from tests.fakes import Bench, breaks_after, make_bench, says

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}
CALL = 'Well.\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def templated(answer: Any = None) -> Bench:
    return make_bench(answer or says("héllo"), template=True)


async def create(bench: Bench, **fields: Any) -> httpx2.Response:
    async with client_of(bench) as client:
        return await client.post(PATH, json={"model": "fake", "input": "hi"} | fields)


async def get(bench: Bench, response_id: str) -> httpx2.Response:
    async with client_of(bench) as client:
        return await client.get(f"{PATH}/{response_id}")


def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    """Each event is its name and its data, and the two agree."""
    events = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def prompts(bench: Bench) -> list[str]:
    return [bytes(intent.prompt_token_ids).decode() for intent in bench.ledger.intents]


async def test_a_whole_response_has_a_message_and_usage() -> None:
    body = (await create(templated())).json()
    assert body["id"].startswith("resp_")
    assert (body["object"], body["status"], body["incomplete_details"]) == ("response", "completed", None)
    [item] = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "héllo", "annotations": [], "logprobs": []}]
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"], body["usage"]["total_tokens"]) == (19, 6, 25)


async def test_a_stream_tells_in_order_what_the_whole_response_has() -> None:
    events = events_of(await create(templated(), stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert "".join(event["delta"] for event in events[4:-4]) == events[-4]["text"] == "héllo"
    end = events[-1]["response"]
    assert end["output"] == [events[-2]["item"]]
    assert end["id"] == events[0]["response"]["id"]


async def test_a_response_that_is_cut_is_incomplete_and_says_why() -> None:
    body = (await create(templated(says("abcdef")), max_output_tokens=3)).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"
    events = events_of(await create(templated(says("abcdef")), max_output_tokens=3, stream=True))
    assert events[-1]["type"] == "response.incomplete"


async def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    events = events_of(await create(templated(breaks_after("part")), stream=True))
    assert events[-1]["type"] == "error"
    assert events[-1]["code"] == "engine_failed"


async def test_calls_are_items_of_their_own_streamed_and_whole() -> None:
    whole = (await create(templated(says(CALL)), tools=[TOOL])).json()["output"]
    message, call = whole
    assert message["content"][0]["text"] == "Well."
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "add", '{"a": 1}')
    events = events_of(await create(templated(says(CALL)), tools=[TOOL], stream=True))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["message", "function_call"]
    assert [event["arguments"] for event in events if event["type"].endswith("arguments.done")] == ['{"a": 1}']


async def test_a_response_goes_on_from_those_before_it_without_their_instructions() -> None:
    bench = templated(says("A."))
    first = (await create(bench, input="one", instructions="Be brief.")).json()["id"]
    second = (await create(bench, input="two", previous_response_id=first)).json()["id"]
    await create(bench, input="three", previous_response_id=second, instructions="Be long.")
    assert prompts(bench)[1] == "<user>one<assistant>A.<user>two<assistant>"
    assert prompts(bench)[2] == "<system>Be long.<user>one<assistant>A.<user>two<assistant>A.<user>three<assistant>"


async def test_what_is_not_kept_is_not_said_to_be_stored() -> None:
    bench = templated()
    assert (await create(bench)).json()["store"] is True
    assert (await create(bench, store=False)).json()["store"] is False


async def test_a_response_that_was_altered_is_neither_shown_nor_gone_on_from() -> None:
    bench = templated(says("A."))
    first = (await create(bench)).json()["id"]
    bench.ledger.altered.add(0)
    asked = [await get(bench, path) for path in (first, f"{first}/input_items")]
    asked.append(await create(bench, previous_response_id=first))
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in asked] == [(503, "vault_corrupt")] * 3
    assert "altered" in asked[0].json()["error"]["message"]
    assert len(bench.ledger.intents) == 1


async def test_going_back_over_much_text_is_refused_with_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = templated(says("A."))
    first = (await create(bench, input="x" * 100)).json()["id"]
    second = (await create(bench, input="x" * 100, previous_response_id=first)).json()["id"]
    monkeypatch.setattr("minivault.api.earlier.MAX_EARLIER_BYTES", 300)
    assert (await create(bench, previous_response_id=first)).status_code == 200
    refused = await create(bench, previous_response_id=second)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (422, "previous_response_id")
    assert "300 bytes" in error["message"]


async def test_earlier_requests_are_parsed_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = templated(says("A."))
    first = (await create(bench)).json()["id"]
    threads: list[bool] = []

    def noticed(call: EarlierCall) -> ResponsesRequest:
        threads.append(threading.current_thread() is threading.main_thread())
        return body_of(call)

    body_of = earlier.body_of
    monkeypatch.setattr(earlier, "body_of", noticed)
    monkeypatch.setattr(responses, "body_of", noticed)
    await create(bench, previous_response_id=first)
    await get(bench, first)
    assert threads == [False, False]


@pytest.mark.parametrize(("name", "kinds"), [("add", ["message", "function_call"]), ("sub", ["message"])])
async def test_of_the_tools_those_alone_may_be_called_that_are_allowed(name: str, kinds: list[str]) -> None:
    bench = templated(says(CALL))
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": name}]}
    whole = (await create(bench, tools=[TOOL, TOOL | {"name": "sub"}], tool_choice=choice)).json()
    assert [item["type"] for item in whole["output"]] == kinds
    assert whole["tool_choice"] == choice
    assert (await get(bench, whole["id"])).json()["output"] == whole["output"]


async def test_the_result_of_a_call_goes_on_from_it() -> None:
    bench = templated(says(CALL))
    first = (await create(bench, tools=[TOOL])).json()
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "2"}
    response = await create(bench, input=[result], previous_response_id=first["id"])
    assert response.status_code == 200
    assert "<tool_response>\n2\n</tool_response>" in prompts(bench)[1]
    assert '{"name": "add", "arguments": {"a": 1}}' in prompts(bench)[1]


async def test_input_may_be_items_of_every_kind() -> None:
    bench = templated()
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "S"}]},
        {"type": "message", "role": "user", "content": "U"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": []}]},
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": "V"},
    ]
    assert (await create(bench, input=items)).status_code == 200
    assert prompts(bench) == ["<system>S<user>U<assistant>A<user>V<assistant>"]


async def test_a_response_is_found_again_as_it_was() -> None:
    bench = templated(says(CALL))
    whole = (await create(bench, tools=[TOOL], metadata={"a": "b"})).json()
    again = (await get(bench, whole["id"])).json()
    assert again | {"created_at": 0} == whole | {"created_at": 0}


async def test_what_is_not_stored_is_not_found_and_nothing_goes_on_from_it() -> None:
    bench = templated()
    kept_not = (await create(bench, store=False)).json()["id"]
    assert (await get(bench, kept_not)).status_code == 404
    refused = await create(bench, previous_response_id=kept_not)
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "previous_response_id")
    assert refused.json()["error"]["message"].startswith("no such response in the vault")


@pytest.mark.parametrize("response_id", ["resp_none", "none", "chatcmpl-x"])
async def test_an_unknown_response_is_404(response_id: str) -> None:
    assert (await get(templated(), response_id)).status_code == 404


async def test_a_chat_completion_is_no_response() -> None:
    bench = templated()
    async with client_of(bench) as client:
        await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]},
                          headers={"x-request-id": "chat"})  # fmt: skip
        assert (await client.get(f"{PATH}/resp_chat")).status_code == 404


async def test_a_deleted_response_is_gone() -> None:
    bench = templated()
    response_id = (await create(bench)).json()["id"]
    async with client_of(bench) as client:
        deleted = await client.delete(f"{PATH}/{response_id}")
        assert deleted.json() == {"id": response_id, "object": "response", "deleted": True}
        assert (await client.get(f"{PATH}/{response_id}")).status_code == 404
        assert (await client.delete(f"{PATH}/{response_id}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"background": True, "stream": True}, "background"),
        ({"background": True, "store": False}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    bench = templated()
    response = await create(bench, **fields)
    assert response.status_code == 422
    assert (response.json()["error"]["param"] or "").startswith(param)
    assert bench.ledger.intents == []


async def test_parts_of_fields_without_effect_are_on_record() -> None:
    bench = templated()
    asked = {"input": "hi", "text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}, "truncation": "auto"}
    async with client_of(bench) as client:
        assert (await client.post(PATH, json=asked)).status_code == 200
    assert set(bench.ledger.intents[0].ignored) == {"text.verbosity", "reasoning.summary", "truncation"}


async def test_what_names_an_item_or_a_form_is_not_on_record_as_without_effect() -> None:
    bench = templated()
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "user", "content": "hi"}
    form = {"type": "json_schema", "name": "a", "strict": True, "schema": {"type": "object"}}
    ask = ResponsesRequest.model_validate({"input": [item], "text": {"format": form}})
    assert ask.to_generation(request_id="a", raw_request=b"", earlier=()).ignored == ()
    assert (await create(bench, input=[item | {"mood": 1}])).status_code == 200
    assert bench.ledger.intents[0].ignored == ("input.mood",)
