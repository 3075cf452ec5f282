"""Bad input: the right status, the field and its bound, and nothing of what was sent."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from minivault.api.wire.native import GenerateRequest
from tests.api.client import client_of
from tests.fakes import make_bench

JSON = {"content-type": "application/json"}
MARK = "s3cr3t"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"nonsense s3cr3t", 400, "invalid_json"),
        (b'{"prompt": "s3cr3t"} trailing', 400, "invalid_json"),
        (b'{"prompt": "\xff\xfe s3cr3t"}', 400, "invalid_json"),
        (b'\xef\xbb\xbf{"prompt": "s3cr3t"}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t \\ud800"}', 400, "invalid_json"),
        (b'{"\\udfff": 1, "prompt": "s3cr3t"}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "temperature": NaN}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "temperature": -Infinity}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "temperature": 1e999}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "seed": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "prompt": "b"}', 400, "invalid_json"),
        (b'{"prompt": "s3cr3t", "response_format": {"type": "text", "type": "text"}}', 400, "invalid_json"),
        (b'{"prompt": ' + b"[" * 65 + b"]" * 65 + b"}", 400, "invalid_json"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json"),
        (b'{"prompt": "s3cr3t\x00"}', 400, "invalid_json"),
        (b"[]", 422, "invalid_type"),
        (b'"s3cr3t"', 422, "invalid_type"),
        (b"null", 422, "invalid_type"),
        (b'{"prompt": "' + b"x" * (1 << 20) + b'"}', 413, "body_too_large"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read(body: bytes, status: int, code: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", content=body, headers=JSON)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert MARK not in response.text
    assert bench.ledger.intents == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"prompt": "s3cr3t" 5}', "The body is not valid JSON, at character 21."),
        (b'{"prompt": "s3cr3t"\n "seed": 1}', "The body is not valid JSON, at line 2, column 2."),
        (b'{"prompt": "s3cr3t', "The body is not valid JSON, at character 12."),
        (b'{"prompt": "s3cr3t"} s3cr3t', "The body is not valid JSON, at character 22."),
        (b'{"prompt": "\xff"}', "The body is not UTF-8, at byte 13."),
    ],
)
async def test_a_fault_of_the_syntax_is_told_with_its_place(body: bytes, said: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", content=body, headers=JSON)
    assert response.json()["error"]["message"] == said


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit() -> None:
    async def endless() -> Any:
        for _ in range(1000):
            yield b'{"prompt": "' + b"x" * 4096

    async with client_of(make_bench(), max_body_bytes=8192) as client:
        response = await client.post("/generate", content=endless(), headers=JSON)
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("prompt", "", "at least 1 character"),
        ("prompt", None, "exactly one of prompt and messages"),
        ("prompt", 5, "must be a string of at least 1 character"),
        ("prompt", ["a"], "must be a string"),
        ("max_tokens", 0, "max_tokens: must be an integer from 1 to 1000000"),
        ("max_tokens", 1_000_001, "must be an integer from 1 to 1000000"),
        ("max_tokens", 1.5, "must be an integer from 1 to 1000000"),
        ("max_tokens", "5", "must be an integer from 1 to 1000000"),
        ("max_tokens", True, "must be an integer from 1 to 1000000"),
        ("temperature", -0.1, "must be a number from 0 to 10"),
        ("temperature", 10.5, "must be a number from 0 to 10"),
        ("temperature", "s3cr3t", "must be a number from 0 to 10"),
        ("top_p", 0, "must be a number above 0 and at most 1"),
        ("top_p", 1.1, "must be a number above 0 and at most 1"),
        ("top_k", -1, "must be an integer from 0 to 1000000"),
        ("min_p", 2, "must be a number from 0 to 1"),
        ("typical_p", 0, "must be a number above 0 and at most 1"),
        ("repetition_penalty", 0, "must be a number from 0.01 to 10"),
        ("presence_penalty", -3, "must be a number from -2 to 2"),
        ("frequency_penalty", 3, "must be a number from -2 to 2"),
        ("min_tokens", -1, "must be an integer from 0 to 1000000"),
        ("seed", -1, "must be an integer from 0 to 9223372036854775807"),
        ("seed", 2**63, "must be an integer from 0 to 9223372036854775807"),
        ("logprobs", 21, "must be an integer from 0 to 20"),
        ("stop", 5, "must be a string of at most 500 characters, or a list of at most 16 items, each a string"),
        ("stop", ["a", 5], "stop.1: must be a string of at most 500 characters"),
        ("stop", ["a"] * 17, "at most 16 items"),
        ("stop", "x" * 501, "at most 500 characters"),
        ("stream", "yes", "must be true or false"),
        ("raw", 1, "must be true or false"),
        ("echo", "true", "must be true or false"),
        ("ignore_eos", 0, "must be true or false"),
        ("model", "", "must be a string of 1 to 200 characters"),
        ("model", "x" * 201, "must be a string of 1 to 200 characters"),
        ("system", "", "at least 1 character"),
        ("response_format", "json", "response_format: must be an object"),
        ("response_format", {"type": "s3cr3t"}, "json_schema"),
        ("response_format", {"type": "json_object", "s": "s3cr3t"}, "response_format.s: is not a field"),
        ("response_format", {"type": "text", "schema": {}}, "response_format.schema: is not a field"),
        ("response_format", {"type": "json_schema", "schema": {}, "strcit": 1}, "response_format.strcit: is not"),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {}, "shcema": 1}},
         "response_format.json_schema.shcema: is not a field"),
        ("response_format", {"type": "regex", "regex": "a", "pattern": "s3cr3t"}, "response_format.pattern: is not a"),
        ("response_format", {"type": "regex", "regex": ""}, "response_format.regex"),
        ("response_format", {"regex": "a"}, "type must be text"),
        ("response_format", {"type": ["s3cr3t"]}, "type must be text"),
        ("response_format", {"type": "json_object"}, "cannot hold answers to a form"),
        ("response_format", {"type": "json_schema", "json_schema": {}}, "must be a JSON Schema"),
        ("response_format", {"type": "regex"}, "response_format.regex"),
        ("response_format", {"type": "grammar", "grammar": 5}, "response_format.grammar"),
        ("nonsense", "s3cr3t", "not a field"),
        ("stop_token_ids", [1], "not a field"),
        ("Prompt", "s3cr3t", "not a field"),
    ],
)  # fmt: skip
async def test_a_field_that_is_wrong_is_named_with_its_bound(name: str, value: Any, said: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", json={"prompt": "hi", name: value})
    error = response.json()["error"]
    assert response.status_code == 422
    assert str(error["param"]).partition(".")[0] == name
    assert said in error["message"]
    assert MARK not in response.text
    assert bench.ledger.intents == []


async def test_a_missing_prompt_is_named() -> None:
    async with client_of(make_bench()) as client:
        error = (await client.post("/generate", json={"max_tokens": 5})).json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "invalid_value")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"prompt": "also this"}, "prompt"),
        ({"raw": True}, "raw"),
        ({"echo": True}, "echo"),
        ({"messages": [{"role": "assistant", "content": "me last"}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ],
)
async def test_a_conversation_that_makes_no_sense_is_refused_by_field(extra: dict[str, Any], param: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **extra}
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", json=body)
    assert response.status_code == 422
    assert response.json()["error"]["param"].startswith(param)


async def test_a_conversation_is_answered() -> None:
    turns = [("user", "My name is Ann."), ("assistant", "Hello Ann."), ("user", "What is my name?")]
    body = {"messages": [{"role": role, "content": content} for role, content in turns], "max_tokens": 5}
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", json=body)
    assert response.status_code == 200
    assert response.json()["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("name", sorted(GenerateRequest.model_fields.keys() - {"prompt"}))
async def test_null_means_the_default(name: str) -> None:
    async with client_of(make_bench()) as client:
        assert (await client.post("/generate", json={"prompt": "hi", name: None})).status_code == 200


@pytest.mark.parametrize("stop", ["", [], [""]])
async def test_an_empty_stop_means_none(stop: Any) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        assert (await client.post("/generate", json={"prompt": "hi", "stop": stop})).status_code == 200
    assert bench.engine.requests[0].sampling.stop == ()


async def test_the_name_of_an_unknown_field_is_made_printable_and_bounded() -> None:
    async with client_of(make_bench()) as client:
        error = (await client.post("/generate", json={"prompt": "hi", "\x1b[31m" + "x" * 500: 1})).json()["error"]
    assert error["param"].startswith("[31mxxx")
    assert len(error["param"]) < 80


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
     "application/json; charset=latin-1"],
)  # fmt: skip
async def test_anything_but_json_is_415(content_type: str) -> None:
    async with client_of(make_bench()) as client:
        headers = {"content-type": content_type} if content_type else {}
        response = await client.post("/generate", content=b'{"prompt": "s3cr3t"}', headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_in_utf8_is_taken(content_type: str) -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", content=b'{"prompt": "hi"}', headers={"content-type": content_type})
    assert response.status_code == 200


async def test_compressed_bodies_are_refused() -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", content=b"\x1f\x8b", headers=JSON | {"content-encoding": "gzip"})
    assert response.status_code == 415


async def test_what_does_not_fit_the_context_names_the_lengths() -> None:
    async with client_of(make_bench()) as client:
        error = (await client.post("/generate", json={"prompt": "hi", "max_tokens": 5000})).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "max_tokens")
    assert "3 tokens" in error["message"]
    assert "at most 1021" in error["message"]


async def test_an_unknown_model_is_404_and_names_the_closest() -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/generate", json={"prompt": "hi", "model": MARK})
    assert (response.status_code, response.json()["error"]["param"]) == (404, "model")
    assert "fake" in response.text
    assert MARK not in response.text


async def test_escaped_pairs_of_surrogates_are_characters() -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        response = await client.post("/generate", content=b'{"prompt": "\\ud83d\\ude00"}', headers=JSON)
    assert response.status_code == 200
    assert bench.ledger.intents[0].prompt_text == "\U0001f600"


async def test_brackets_within_strings_are_no_depth() -> None:
    async with client_of(make_bench()) as client:
        body = json.dumps({"prompt": '[{"' * 100}).encode()
        assert (await client.post("/generate", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize(("path", "field"), [("/v1/embeddings", "input"), ("/v1/completions", "prompt")])
async def test_a_long_list_of_wrong_items_is_refused_as_fast_as_a_short_one(path: str, field: str) -> None:
    async with client_of(make_bench()) as client:
        for items in (["a", 5] * 100_000, [None] * 200_000, [[0, "a"]] * 80_000):
            began = time.process_time()
            response = await client.post(path, json={"model": "fake", field: items})
            assert time.process_time() - began < 5  # it took minutes, and nobody else was answered meanwhile
            assert (response.status_code, response.json()["error"]["param"].split(".")[0]) == (422, field)
