"""The form of an answer in the words of vLLM and llama-server, on OpenAI's routes and the embedded model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.client import client_of
from tests.e2e.server import Server, serving
from tests.fakes import make_bench

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"]}
TURNS = [{"role": "user", "content": "go"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("constraints") / "data") as running:
        yield running


def said(server: Server, path: str = "/v1/chat/completions", **fields: Any) -> str:
    asked = {"messages": TURNS} if "chat" in path else {"prompt": "go"}
    answer = httpx2.post(server.url + path, json=asked | {"max_tokens": 60, "seed": 3} | fields, timeout=120)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    return str(choice["message"]["content"] if "chat" in path else choice["text"])


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": SCHEMA},
        {"structured_outputs": {"json": SCHEMA, "json_object": False}},
        {"json_schema": SCHEMA},
        {"json_schema": SCHEMA, "response_format": {"type": "text"}},
    ],
    ids=str,
)
def test_a_schema_holds_the_answer(server: Server, fields: dict[str, Any]) -> None:
    assert re.fullmatch(r'\{"a": ?[0-9]\}', said(server, **fields))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_choice_is_one_of_its_texts_and_a_pattern_is_met(server: Server, path: str) -> None:
    texts = ["a.b (c) [d] {e} ^f$ g|h \\ i*", "naïve + «x»/y? #-&~"]
    for text in texts:
        assert said(server, path, guided_choice=[text]) == text
    assert said(server, path, structured_outputs={"choice": texts}) in texts
    assert re.fullmatch("[xy]{4}", said(server, path, guided_regex="[xy]{4}"))
    assert re.fullmatch("[xy]{4}", said(server, path, structured_outputs={"regex": "[xy]{4}"}))
    assert said(server, path, structured_outputs={"json_object": True}).startswith("{")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": "{}"}, "guided_json"),
        ({"structured_outputs": {"json": []}}, "structured_outputs.json"),
        ({"guided_json": SCHEMA, "guided_regex": "a"}, "guided_json"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs.json"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_grammar": "root ::= x"}, "guided_grammar"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"guided_regex": 5}, "guided_regex"),
    ],
)
async def test_what_cannot_be_held_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with client_of(make_bench(template=True)) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": TURNS} | fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"].startswith(param)
    assert param in answer.json()["error"]["message"]


async def test_what_asks_for_nothing_holds_nothing() -> None:
    nothing: dict[str, Any] = {"grammar": "", "guided_json": None, "structured_outputs": {}}
    async with client_of(make_bench(template=True)) as client:
        answer = await client.post("/v1/chat/completions", json={"messages": TURNS} | nothing)
    assert answer.status_code == 200


def test_a_fault_of_a_schema_is_told_under_the_name_that_was_sent(server: Server) -> None:
    for fields in ({"guided_json": {"type": "nothing"}}, {"structured_outputs": {"json": {"type": "nothing"}}}):
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json={"messages": TURNS} | fields, timeout=60)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith(next(iter(fields)))
