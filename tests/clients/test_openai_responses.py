"""The ``openai`` package's Responses against ``minivault serve``: streams, calls, and conversations from the vault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from tests.clients.records import left_midway
from tests.e2e.server import Server, serving

ASK: Any = {"model": "guide", "input": "What model are you?", "max_output_tokens": 60, "extra_body": {"seed": 7}}
ADD: Any = {
    "type": "function",
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("responses") / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0) as made:
        yield made


def part_of(response: Any) -> Any:
    """The first part of the first item."""
    return response.output[0].content[0]


def test_a_streamed_response_equals_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASK)
    events = list(client.responses.create(**ASK, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text != ""
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage == whole.usage


def test_logprobs_of_a_response_join_to_its_text_whole_and_streamed(client: openai.OpenAI) -> None:
    asked = ASK | {"include": ["message.output_text.logprobs"], "top_logprobs": 3}
    whole = client.responses.create(**asked)
    part = part_of(whole)
    assert b"".join(bytes(token.bytes) for token in part.logprobs).decode() == whole.output_text
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in part.logprobs)
    events = list(client.responses.create(**asked, stream=True))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    told = [(token.token, token.logprob) for event in deltas for token in event.logprobs]
    assert told == [(token.token, token.logprob) for token in part.logprobs]
    [done] = [event for event in events if event.type == "response.output_text.done"]
    assert [(token.token, token.logprob) for token in done.logprobs] == told
    assert part_of(client.responses.retrieve(whole.id)).logprobs == []


def test_the_packages_own_stream_helper_gathers_the_same_response(client: openai.OpenAI) -> None:
    asked = {name: value for name, value in ASK.items() if name != "max_output_tokens"}
    with client.responses.stream(**asked) as stream:
        final = stream.get_final_response()
    assert final.output_text == client.responses.create(**asked).output_text


def test_a_conversation_goes_on_from_the_vault(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK)
    second = client.responses.create(**ASK | {"input": "And then?"}, previous_response_id=first.id)
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert second.previous_response_id == first.id


def test_a_response_is_retrieved_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(**ASK)
    assert client.responses.retrieve(made.id).output_text == made.output_text
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_what_a_response_was_made_from_is_listed(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK)
    second = client.responses.create(**ASK | {"input": "And then?"}, previous_response_id=first.id)
    items: Any = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.content[0].text for item in items] == [ASK["input"], first.output_text, "And then?"]
    assert items[1].id == first.output[0].id


def test_the_tokens_of_a_request_are_counted(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="guide", input=ASK["input"])
    made = client.responses.create(**ASK)
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


def test_items_of_earlier_answers_are_named_instead_of_sent(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK)
    named: Any = [{"role": "user", "content": ASK["input"]}, {"type": "item_reference", "id": first.output[0].id}]
    more: Any = {"role": "user", "content": "And then?"}
    second = client.responses.create(**ASK | {"input": [*named, more]})
    went_on = client.responses.create(**ASK | {"input": [more]}, previous_response_id=first.id)
    assert second.output_text == went_on.output_text


def test_a_response_in_the_background_is_asked_for_and_cancelled(client: openai.OpenAI) -> None:
    made = client.responses.create(**ASK, background=True)
    assert made.status == "in_progress"
    while (again := client.responses.retrieve(made.id)).status == "in_progress":
        pass
    assert again.output_text == client.responses.create(**ASK).output_text
    endless: Any = {"model": "guide", "input": "a", "temperature": 10, "extra_body": {"ignore_eos": True}}
    runs = client.responses.create(**endless, background=True)
    assert client.responses.cancel(runs.id).status == "cancelled"
    assert client.responses.retrieve(runs.id).status == "cancelled"


def test_a_call_is_made_and_its_result_answered(client: openai.OpenAI) -> None:
    asked = ASK | {"input": "Add 5.", "tools": [ADD]}
    first = client.responses.create(**asked, tool_choice="required", parallel_tool_calls=False)
    [call] = first.output
    assert call.type == "function_call"
    jsonschema.validate(json.loads(call.arguments), ADD["parameters"])
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "10"}
    second = client.responses.create(**ASK | {"input": [result]}, previous_response_id=first.id)
    assert second.output_text


class Answer(BaseModel):
    """What the package's own ``parse`` asks for."""

    yes: bool


def test_the_packages_parse_gives_an_instance(client: openai.OpenAI) -> None:
    assert isinstance(client.responses.parse(**ASK, text_format=Answer).output_parsed, Answer)


def test_an_unknown_response_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(**ASK, previous_response_id="resp_none")
    assert caught.value.param == "previous_response_id"


def test_leaving_a_stream_cancels(client: openai.OpenAI, server: Server) -> None:
    endless = {"model": "guide", "input": "a", "temperature": 10, "extra_body": {"ignore_eos": True}}

    def leave() -> None:
        with client.responses.create(**endless, stream=True) as stream:  # type: ignore[call-overload]
            next(event for event in stream if event.type == "response.output_text.delta")

    _, record = left_midway(leave, "responses", server.url)
    assert record["response"]
