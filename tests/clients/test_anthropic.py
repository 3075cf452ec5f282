"""The ``anthropic`` package, as people use it, against ``minivault serve``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam

from tests.clients.records import left_midway
from tests.e2e.server import Server, serving

TURNS: list[MessageParam] = [{"role": "user", "content": "What model are you?"}]
ASK: dict[str, Any] = {"model": "guide", "max_tokens": 40, "messages": TURNS, "extra_body": {"temperature": 0}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("anthropic") / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="anything", max_retries=0) as made:
        yield made


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content)


def test_the_streaming_helper_collects_what_the_whole_message_says(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(whole) == text_of(final) != ""
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.usage.input_tokens == whole.usage.input_tokens > 0


def test_raw_events_come_in_the_documented_order(client: anthropic.Anthropic) -> None:
    kinds = [event.type for event in client.messages.create(**ASK, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


def test_a_stop_sequence_is_named(client: anthropic.Anthropic) -> None:
    whole = text_of(client.messages.create(**ASK))
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    message = client.messages.create(**ASK, stop_sequences=["\u2603", stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert text_of(message) == whole[: whole.index(stop)]


def test_a_max_tokens_made_for_larger_models_is_taken(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**ASK | {"max_tokens": 8192})
    assert message.stop_reason in ("end_turn", "model_context_window_exceeded")


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="guide", messages=TURNS, system="Be brief.")
    assert counted.input_tokens == client.messages.create(**ASK, system="Be brief.").usage.input_tokens


def test_a_schema_holds_the_answer(client: anthropic.Anthropic) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    message = client.messages.create(**ASK | {"output_config": {"format": {"type": "json_schema", "schema": schema}}})
    assert list(json.loads(text_of(message))) == ["ok"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"model": "claude-nope"}, anthropic.NotFoundError),
        ({"extra_body": {"temperature": 7}}, anthropic.UnprocessableEntityError),
        ({"tool_choice": {"type": "any"}}, anthropic.UnprocessableEntityError),
        ({"messages": "no list"}, anthropic.UnprocessableEntityError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_arrive_as_the_packages_own(
    client: anthropic.Anthropic, change: dict[str, Any], kind: type[anthropic.APIStatusError], stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.messages.create(**ASK | change, stream=stream)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"


def test_leaving_a_stream_cancels_and_is_recorded(server: Server, client: anthropic.Anthropic) -> None:
    story = [{"role": "user", "content": "Tell me a short story."}]
    endless = ASK | {"messages": story, "max_tokens": 900, "extra_body": {"temperature": 1}}

    def leave() -> str:
        with client.messages.stream(**endless) as stream:
            return next(iter(stream.text_stream))

    said, record = left_midway(leave, "anthropic", server.url)
    assert record["response"].startswith(said)


async def test_the_async_client_streams_and_answers(server: Server) -> None:
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="anything", max_retries=0) as client:
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            text = "".join([part async for part in stream.text_stream])
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(**ASK | {"model": "nope"})
    assert text == text_of(whole)


def test_a_tool_that_must_be_called_is_called_and_its_result_is_answered(client: anthropic.Anthropic) -> None:
    cities: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"enum": ["Bern", "Oslo"]}},
        "required": ["city"],
    }
    cities["additionalProperties"] = False
    tools = {"tools": [{"name": "weather", "description": "Tells the weather.", "input_schema": cities}]}
    with client.messages.stream(
        **ASK | tools | {"tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 200}
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert call.type == "tool_use"
    assert (call.name, call.input["city"] in ("Bern", "Oslo")) == ("weather", True)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turns = [*TURNS, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(**ASK | tools | {"messages": turns})
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")


def test_models_are_listed_and_shown_as_the_package_has_them(client: anthropic.Anthropic) -> None:
    listed = list(client.models.list(limit=1))
    shown = client.models.retrieve("guide")
    assert [(model.id, model.type, model.display_name) for model in listed] == [("guide", "model", "guide")]
    assert (shown.id, shown.created_at.year > 1970) == ("guide", True)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nope")
