"""Errors of every surface name the field and its bounds in this server's own words, and repeat no value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

import minivault.api.app  # noqa: F401 - its routes name what they take
from minivault.api import schema
from minivault.api.wire.bounds import Schema, place_of, schema_of
from tests.api.client import client_of
from tests.fakes import make_bench

MARK = "s3cr3t"
ASKED: list[type[BaseModel]] = sorted(schema._asked, key=lambda model: model.__name__)
TURNS = [{"role": "user", "content": "hi"}]
BASE: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "hi"},
    "/embed": {"model": "fake", "input": "a"},
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/embeddings": {"model": "fake", "input": "a"},
    "/v1/messages": {"model": "fake", "messages": TURNS, "max_tokens": 5},
    "/v1/batches": {"input_file_id": "a", "endpoint": "/v1/completions", "completion_window": "24h"},
    "/api/generate": {"model": "fake", "prompt": "hi"},
    "/api/chat": {"model": "fake", "messages": TURNS},
    "/api/embed": {"model": "fake", "input": "a"},
    "/models/pull": {"model": "a/b"},
    "/models/fake/load": {},
}
PYDANTICS = re.compile(r"Input|should|valid |ield required|greater than|less than|unable to|Value error|literal\[")


async def said_of(path: str, body: dict[str, Any]) -> str:
    async with client_of(make_bench()) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


FIELDS = (
    "model", "prompt", "input", "messages", "system", "stop", "stop_sequences", "options", "format", "tools",
    "tool_choice", "response_format", "logit_bias", "stream_options", "max_tokens", "temperature", "top_p", "seed",
    "stream", "context", "keep_alive", "think", "thinking", "text", "metadata", "output_config", "dimensions",
    "encoding_format", "name", "path", "concurrency", "endpoint", "modalities", "n", "raw", "template",
)  # fmt: skip


@pytest.mark.parametrize("path", BASE)
async def test_no_word_of_pydantics_and_no_value_reaches_a_client(path: str) -> None:
    wrong = [(name, value) for name in FIELDS for value in (MARK, -1e12, {MARK: MARK}, [{MARK: [MARK]}, 5], True)]
    async with client_of(make_bench()) as client:
        answers = [await client.post(path, json=BASE[path] | {name: value}) for name, value in wrong]
    refused = [answer.json()["error"] for answer in answers if answer.status_code == 422]
    said = [error if isinstance(error, str) else error["message"] for error in refused]
    assert len(said) > 8
    assert [one for one in said if PYDANTICS.search(one) or MARK in one] == []


@pytest.mark.parametrize("model", ASKED)
def test_no_field_has_a_wall_of_words(model: type[BaseModel]) -> None:
    """But those of a prompt in four ways, which has words of its own."""

    def places(root: Schema, here: Schema, name: str, depth: int) -> Iterator[tuple[str, str]]:
        place = place_of({**here, "$defs": root.get("$defs", {})}, ())
        yield name, place.may_be
        for branch in place.branches if depth else ():
            for inner, one in branch.get("properties", {}).items():
                yield from places(root, one, f"{name}.{inner}", depth - 1)
            if isinstance(branch.get("items"), Mapping):
                yield from places(root, branch["items"], name, depth - 1)

    root = schema_of(model)
    long = {name for name, words in places(root, root, model.__name__, 6) if len(words) > 110}
    assert long <= {"EmbeddingsRequest.input", "CompletionRequest.prompt"}


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "a"}]},
         'messages[0].role: must be "system", "developer", "user", "assistant", "tool" or "function"'),
        ("/v1/chat/completions", {"messages": [{"content": "a"}]}, "messages[0].role: is required"),
        ("/v1/chat/completions", {"messages": [5]}, "messages[0]: must be an object"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
         "messages[0].content[0].text: must be a string"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]},
         "messages[0].content: must be a string, or a list, each an object"),
        ("/v1/chat/completions", {"tool_choice": "s3cr3t"},
         'tool_choice: must be "none", "auto" or "required", or an object'),
        ("/v1/chat/completions", {"tool_choice": {"type": "function"}}, "tool_choice.function: is required"),
        ("/v1/chat/completions", {"logit_bias": {"s3cr3t": 5}}, "logit_bias: must be an object of at most 1024"),
        ("/v1/chat/completions", {"logit_bias": {"1": 500}}, "each a number from -100 to 100"),
        ("/v1/completions", {"prompt": {}}, "prompt: must be text, token ids, or a list"),
        ("/v1/completions", {"prompt": []}, "prompt: must have at least 1 item"),
        ("/v1/embeddings", {"input": []}, "input: must have at least 1 item"),
        ("/v1/embeddings", {"input": ""}, "input: must have at least 1 character"),
        ("/v1/embeddings", {"input": ["a", ""]}, "input[1]: must be a string of at least 1 character"),
        ("/v1/embeddings", {"input": [5, "a"]}, "input: must be text, token ids, or a list of 1 to 2048 texts"),
        ("/v1/responses", {"input": []}, "input: must have at least 1 item"),
        ("/v1/responses", {"input": ""}, "input: must have at least 1 character"),
        ("/embed", {"input": []}, "input: must have at least 1 item"),
        ("/api/embed", {"input": ["a"] * 2049}, "input: must have at most 2048 items"),
        ("/v1/chat/completions", {"stop": ["a"] * 17}, "stop: must have at most 16 items"),
        ("/api/generate", {"options": {"stop": "a" * 501}}, "options.stop: must have at most 500 characters"),
        ("/api/generate", {"keep_alive": []}, "keep_alive: must be a duration such as 10m, or a number of seconds"),
        ("/v1/messages", {"max_tokens": 0}, "max_tokens: must be an integer from 1 to 1000000"),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
         "messages.0.content.0.text: must be a string"),
        ("/api/generate", {"options": {"temperature": 11}}, "options.temperature: must be a number from 0 to 10"),
        ("/api/generate", {"think": "s3cr3t"}, 'think: must be true or false, or "low", "medium", "high" or "max"'),
        ("/api/generate", {"keep_alive": "s3cr3t"}, "keep_alive: must be a duration such as 10m"),
        ("/models/fake/load", {"keep_alive": -2}, "keep_alive: must be a number from -1 to 1000000000"),
        ("/models/pull", {"s3cr3t\x1b": 1}, "s3cr3t: is not a field of this request"),
    ],
)  # fmt: skip
async def test_the_place_and_the_bounds_are_named(path: str, change: dict[str, Any], said: str) -> None:
    assert said in await said_of(path, BASE[path] | change)


PICTURE = [{"type": "image_url", "image_url": {"url": "s3cr3t"}}]


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/generate", {"prompt": None, "messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ("/generate", {"stop": ["a", 5]}, "stop.1"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": PICTURE}]}, "messages[0].content[0]"),
        ("/v1/chat/completions", {"stop": ["a", 5]}, "stop[1]"),
        ("/v1/responses", {"input": [{"role": "user", "content": PICTURE}]}, "input[0].content[0]"),
        ("/v1/responses", {"input": [{"role": "user"}]}, "input[0].content"),
    ],
)
async def test_param_is_the_place_that_the_message_names_as_the_surface_writes_it(
    path: str, change: dict[str, Any], param: str
) -> None:
    async with client_of(make_bench()) as client:
        error = (await client.post(path, json=BASE[path] | change)).json()["error"]
    assert error["param"] == param
    assert re.split(r":| is ", error["message"])[0] == param


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "limit: must be an integer from 1 to "),
        ("limit=s3cr3t", "limit: must be an integer from 1 to "),
        ("finish_reason=s3cr3t", 'finish_reason: must be "'),
        ("cursor=s3cr3t", "cursor: must be a string that matches ^[0-9]"),
        ("after=s3cr3t", "after must be an RFC 3339 time, such as"),
        (
            "surface=s3cr3t",
            'surface: must be "native", "openai", "responses", "anthropic", "ollama", "replay" or "import"',
        ),
        ("source=s3cr3t", 'source: must be "http", "cli" or "import"'),
        ("after=2030-01-02&before=2030-01-01", "after: must not be later than before"),
        ("min_duration_ms=5&max_duration_ms=4", "min_duration_ms: must not be above max_duration_ms"),
        ("limit=1&limit=2", "limit: must be given once"),
    ],
)
async def test_a_parameter_of_a_query_is_named_with_its_bounds(query: str, said: str) -> None:
    async with client_of(make_bench()) as client:
        answer = await client.get(f"/vault/records?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, query.partition("=")[0])
    assert said in error["message"]
    assert MARK not in answer.text


async def test_an_unknown_parameter_of_a_query_is_named_with_those_that_there_are() -> None:
    async with client_of(make_bench()) as client:
        error = (await client.get("/vault/records?limit=5&modle=s3cr3t")).json()["error"]
        alone = (await client.get("/models/fake?x%1b%5b31m=s3cr3t")).json()["error"]
    assert (error["param"], error["code"]) == ("modle", "unknown_field")
    assert error["message"].startswith("modle: is not a query parameter of this path, which takes after, before, ")
    assert (alone["param"], alone["message"]) == (
        "x[31m",
        "x[31m: is not a query parameter of this path, which takes none",
    )


@pytest.mark.parametrize("path", ["/generate", "/generate/stream", "/generate-stream", "/embed"])
async def test_a_parameter_of_the_query_is_not_passed_over_where_a_body_says_all(path: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answer = await client.post(f"{path}?stream=true", json=BASE.get(path, {"prompt": "hi"}))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (422, "stream", "unknown_field")
    assert error["message"] == "stream: is not a query parameter of this path, which takes none"
    assert bench.ledger.intents == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
async def test_clients_of_others_may_send_parameters_that_mean_nothing_here(path: str) -> None:
    async with client_of(make_bench()) as client:
        answer = await client.post(f"{path}?beta=true", json=BASE[path])
    assert answer.status_code == 200


async def test_a_name_in_a_path_is_bounded_too() -> None:
    async with client_of(make_bench()) as client:
        error = (await client.get(f"/models/{'x' * 201}")).json()["error"]
    assert (error["message"], error["param"]) == ("name: must be a string of 1 to 200 characters", "name")
