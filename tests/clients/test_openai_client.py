"""The ``openai`` package, as people use it, against ``minivault serve`` with the embedded model."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import openai
import pytest
from pydantic import BaseModel

from tests.clients.records import left_midway
from tests.e2e.server import Server, serving

ASK = "What model are you?"
TURNS: Any = [{"role": "user", "content": ASK}]
SEEDED: Any = {"model": "guide", "messages": TURNS, "seed": 7, "max_tokens": 40}
ENDLESS: Any = {"model": "guide", "messages": TURNS, "temperature": 10, "top_p": 1, "extra_body": {"ignore_eos": True}}
"""Random words, which go on to the end of the context."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("openai") / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with client_of(server) as made:
        yield made


def client_of(server: Server, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", **{"max_retries": 0, **options})


def test_a_streamed_answer_equals_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**SEEDED)
    chunks = list(client.chat.completions.create(**SEEDED, stream=True, stream_options={"include_usage": True}))
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].system_fingerprint == whole.system_fingerprint
    assert whole.model == "guide"


def test_the_packages_own_stream_helper_gathers_the_same_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**SEEDED)
    with client.chat.completions.stream(**SEEDED) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in events
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


async def test_the_async_client_gives_the_same_answers_alone_and_together(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:

        async def ask(seed: int) -> str:
            stream = await client.chat.completions.create(**SEEDED | {"seed": seed}, stream=True)
            return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

        alone = [await ask(seed) for seed in range(4)]
        together = await asyncio.gather(*(ask(seed) for seed in range(4)))
    assert alone == list(together)


def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        *TURNS,
        {"role": "assistant", "content": [{"type": "text", "text": "A small one."}]},
        {"role": "user", "content": "And then?"},
    ]
    answer = client.chat.completions.create(**SEEDED | {"messages": turns})
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > client.chat.completions.create(**SEEDED).usage.prompt_tokens


def test_several_choices_are_those_of_the_seeds_that_follow(client: openai.OpenAI) -> None:
    wild = SEEDED | {"temperature": 5, "top_p": 1}
    several = client.chat.completions.create(**wild, n=3)
    alone = [client.chat.completions.create(**wild | {"seed": seed}).choices[0].message.content for seed in (7, 8, 9)]
    assert [choice.message.content for choice in several.choices] == alone
    assert len(set(alone)) == 3


def test_stop_ends_the_answer_before_itself(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**SEEDED).choices[0].message.content or ""
    word = whole.split()[2]
    cut = client.chat.completions.create(**SEEDED, stop=[word]).choices[0]
    assert cut.message.content == whole[: whole.index(word)]
    assert cut.finish_reason == "stop"


def test_logprobs_of_an_answer_join_to_its_bytes(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**SEEDED, logprobs=True, top_logprobs=5).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or ()) for token in content).decode() == choice.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 5 for token in content)
    best = [max(top.logprob for top in token.top_logprobs) for token in content]
    assert all(token.logprob <= most for token, most in zip(content, best, strict=True))


def test_logit_bias_makes_and_forbids_tokens(client: openai.OpenAI) -> None:
    fields: Any = {"model": "guide", "prompt": "a", "max_tokens": 4, "temperature": 0}
    wanted = client.completions.create(**fields, logit_bias={"300": 100}).choices[0].text
    assert wanted == wanted[: len(wanted) // 4] * 4 != ""
    assert client.completions.create(**fields, logit_bias={"300": -100}).choices[0].text != wanted


def test_text_completions_take_text_tokens_and_lists_of_both(client: openai.OpenAI) -> None:
    fields: Any = {"model": "guide", "max_tokens": 8, "seed": 7}
    one = client.completions.create(prompt="Once upon", **fields).choices[0].text
    many = client.completions.create(prompt=["Once upon", "Once upon"], **fields)
    assert [choice.text for choice in many.choices] == [one, one]
    assert client.completions.create(prompt="Once upon", echo=True, **fields).choices[0].text == "Once upon" + one
    tokens = client.completions.create(prompt=[[5, 6, 7], [5, 6, 7]], **fields)
    assert tokens.choices[0].text == tokens.choices[1].text
    streamed = client.completions.create(prompt="Once upon", stream=True, **fields)
    assert "".join(choice.text for chunk in streamed for choice in chunk.choices) == one


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["guide"]
    assert client.models.retrieve("guide").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"


# -- structured output -------------------------------------------------------------------------------------------------


def random_schema(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A JSON Schema whose every part is bounded, so that an answer to it ends."""
    kinds = ["boolean", "integer", "enum", "string", "null"] + (["object", "array", "object"] if depth < 2 else [])
    kind = "object" if depth == 0 else chance.choice(kinds)
    if kind == "enum":
        return {"enum": chance.sample(["red", "gre\u00fcn", "a b", 7, None, True], k=3)}
    if kind == "integer":
        least = chance.randint(-50, 50)
        return {"type": "integer", "minimum": least, "maximum": least + chance.randint(0, 99)}
    if kind == "string":
        return {"type": "string", "maxLength": chance.randint(1, 12)}
    if kind == "array":
        return {"type": "array", "items": random_schema(chance, depth + 1), "minItems": 1, "maxItems": 3}
    if kind == "object":
        names = chance.sample(["name", "age", "tags", "\u00fcber", "a-b", "x"], k=chance.randint(1, 4))
        properties = {name: random_schema(chance, depth + 1) for name in names}
        required = [name for name in names if chance.random() < 0.7]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": kind}


async def test_answers_fit_two_hundred_random_schemas(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:

        async def check(number: int) -> None:
            schema = random_schema(random.Random(number))  # noqa: S311 - repeatable
            answer = await client.chat.completions.create(
                model="guide",
                messages=[{"role": "user", "content": "Fill in the form."}],
                seed=number,
                temperature=1,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "form", "strict": True, "schema": schema},
                },
            )
            assert answer.choices[0].finish_reason == "stop"
            jsonschema.validate(json.loads(answer.choices[0].message.content or ""), schema)

        await asyncio.gather(*(check(number) for number in range(200)))


def test_json_mode_gives_an_object_without_a_schema(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**SEEDED | {"max_tokens": 400}, response_format={"type": "json_object"})
    text = choice.choices[0].message.content or ""
    assert text.startswith("{")
    if choice.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


class Person(BaseModel):
    """What the package's own ``parse`` asks for."""

    kind: bool
    age: int


def test_the_packages_parse_gives_an_instance(client: openai.OpenAI) -> None:
    asked = {name: value for name, value in SEEDED.items() if name != "max_tokens"}
    parsed = client.chat.completions.parse(**asked, response_format=Person).choices[0].message.parsed
    assert isinstance(parsed, Person)


def test_a_regular_expression_holds_the_answer(client: openai.OpenAI) -> None:
    form = {"type": "regex", "regex": "[a-c]{3}-[0-9]{2}"}
    answer = client.chat.completions.create(**SEEDED, extra_body={"response_format": form})
    assert len(answer.choices[0].message.content or "") == 6


def test_an_answer_held_to_a_form_replays_to_a_match(client: openai.OpenAI, server: Server) -> None:
    schema = random_schema(random.Random(3))  # noqa: S311 - repeatable
    form: Any = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    raw = client.chat.completions.with_raw_response.create(**SEEDED, response_format=form)
    replayed = httpx2.post(f"{server.url}/vault/records/{raw.headers['x-request-id']}/replay", timeout=60).json()
    assert replayed["verdict"] == "MATCH"


# -- tools -------------------------------------------------------------------------------------------------------------

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "unit"],
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
TOOLED: Any = {"model": "guide", "seed": 7, "max_tokens": 200, "tools": [WEATHER, CLOCK]}
RAIN: Any = [{"role": "user", "content": "Will it rain in Rome?"}]


def test_a_tool_is_called_and_its_result_answered(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    first = client.chat.completions.create(**TOOLED, messages=RAIN, tool_choice=choice).choices[0]
    assert first.finish_reason == "tool_calls"
    [call] = first.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    turns = [*RAIN, first.message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(**TOOLED, messages=turns, tool_choice="none").choices[0]
    assert second.message.content
    assert second.message.tool_calls is None


@pytest.mark.parametrize("seed", range(8))
def test_a_required_call_is_always_one_of_the_tools_and_fits(client: openai.OpenAI, seed: int) -> None:
    asked = TOOLED | {"seed": seed, "temperature": 1.5, "messages": RAIN, "tool_choice": "required"}
    choice = client.chat.completions.create(**asked, parallel_tool_calls=False).choices[0]
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    tool = {"weather": WEATHER, "clock": CLOCK}[call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), tool["function"].get("parameters", {"maxProperties": 0}))


@pytest.mark.parametrize("most", [8, 40, 70])
def test_a_required_call_that_is_cut_is_no_text_now_or_when_it_is_read_again(server: Server, most: int) -> None:
    asked = {"model": "guide", "seed": 7, "temperature": 1.5, "input": "Will it rain?", "max_output_tokens": most,
             "tools": [{"type": "function", **WEATHER["function"]}], "tool_choice": "required"}  # fmt: skip
    made = httpx2.post(f"{server.url}/v1/responses", json=asked, timeout=60).json()
    read = httpx2.get(f"{server.url}/v1/responses/{made['id']}", timeout=60).json()
    assert (made["status"], read["output"]) == ("incomplete", made["output"])
    assert [part["text"] for item in made["output"] for part in item.get("content", ())] in ([], [""])


def test_streamed_calls_are_gathered_by_the_packages_own_helper(client: openai.OpenAI) -> None:
    asked = TOOLED | {"messages": RAIN, "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls or []
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    gathered = final.message.tool_calls or []
    assert [call.function.arguments for call in gathered] == [call.function.arguments for call in whole]


@pytest.mark.parametrize("seed", range(6))
def test_beside_tools_an_answer_in_words_has_its_form_and_a_call_that_of_its_tool(
    client: openai.OpenAI, seed: int
) -> None:
    schema = random_schema(random.Random(seed))  # noqa: S311 - repeatable
    form: Any = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    asked = TOOLED | {"seed": seed, "temperature": 1.5, "messages": RAIN, "response_format": form}
    message = client.chat.completions.create(**asked).choices[0].message
    for call in message.tool_calls or []:
        assert call.type == "function"
        tool = {"weather": WEATHER, "clock": CLOCK}[call.function.name]
        jsonschema.validate(json.loads(call.function.arguments), tool["function"].get("parameters", {}))
    if not message.tool_calls:
        jsonschema.validate(json.loads(message.content or ""), schema)


def test_beside_tools_a_regular_expression_with_slashes_holds_the_words(client: openai.OpenAI) -> None:
    form = {"type": "regex", "regex": r"a/b\\/[0-9]{2}\n?"}
    message = (
        client.chat.completions.create(**TOOLED, messages=RAIN, extra_body={"response_format": form}).choices[0].message
    )
    assert message.tool_calls or re.fullmatch(r"a/b\\/[0-9]{2}\n?", message.content or "")


def test_an_answer_held_to_calls_replays_to_a_match(client: openai.OpenAI, server: Server) -> None:
    raw = client.chat.completions.with_raw_response.create(**TOOLED, messages=RAIN, tool_choice="required")
    replayed = httpx2.post(f"{server.url}/vault/records/{raw.headers['x-request-id']}/replay", timeout=60).json()
    assert replayed["verdict"] == "MATCH"


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_as_its_lines_are_alone(client: openai.OpenAI) -> None:
    alone = client.chat.completions.create(**SEEDED).choices[0].message.content
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": SEEDED}
    file = client.files.create(file=("in.jsonl", json.dumps(row).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "a test"}
    )
    while batch.status in ("validating", "in_progress", "finalizing"):
        batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed, batch.metadata) == ("completed", 1, {"of": "a test"})
    [line] = client.files.content(batch.output_file_id or "").text.splitlines()
    assert json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] == alone
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert {one.id for one in client.files.list(purpose="batch")} >= {file.id}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


# -- errors and endings ------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=TURNS)
    assert (caught.value.code, caught.value.status_code) == ("model_not_found", 404)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}}, "response"),
    ],
)
def test_a_wrong_field_is_named(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(**SEEDED | fields)
    assert (caught.value.param or "").startswith(param)
    assert caught.value.request_id


def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--rate-limit", "1/hour") as server, client_of(server) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()
        assert int(caught.value.response.headers["retry-after"]) >= 1


def test_leaving_a_stream_cancels_and_records_what_was_sent(client: openai.OpenAI, server: Server) -> None:
    def leave() -> None:
        with client.chat.completions.create(**ENDLESS, stream=True) as stream:
            next(chunk for chunk in stream if chunk.choices[0].delta.content)

    _, record = left_midway(leave, "openai", server.url)
    assert record["response"]


def test_a_client_that_times_out_leaves_a_cancelled_record(server: Server) -> None:
    def leave() -> None:
        with suppress(openai.APITimeoutError), client_of(server, timeout=httpx2.Timeout(60, read=0.1)) as client:
            client.chat.completions.create(**ENDLESS, n=8)

    _, record = left_midway(leave, "openai", server.url, mode="full")
    assert record["response"] == ""


def test_an_async_task_that_is_cancelled_leaves_a_cancelled_record(server: Server) -> None:
    async def leave() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:
            stream = await client.chat.completions.create(**ENDLESS, stream=True, user="async")

            async def read() -> None:
                async for _ in stream:
                    pass

            reading = asyncio.ensure_future(read())
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await stream.close()

    left_midway(lambda: asyncio.run(leave()), "openai", server.url)
