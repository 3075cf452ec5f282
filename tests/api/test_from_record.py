"""Answers from the record over HTTP: asked for by a header, marked by another, and the same bytes on every surface."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import Bench, make_bench, says

ASKED = {"MiniVault-Answer-From-Record": "true"}
TURNS = [{"role": "user", "content": "hi"}]
SURFACES: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"prompt": "hi"}),
    ("/generate", {"prompt": "hi", "stream": True}),
    ("/generate/stream", {"prompt": "hi"}),
    ("/generate-stream", {"prompt": "hi"}),
    ("/v1/chat/completions", {"model": "fake", "messages": TURNS}),
    ("/v1/chat/completions", {"model": "fake", "messages": TURNS, "stream": True}),
    ("/v1/completions", {"model": "fake", "prompt": "hi"}),
    ("/v1/completions", {"model": "fake", "prompt": "hi", "stream": True}),
    ("/v1/responses", {"model": "fake", "input": "hi"}),
    ("/v1/responses", {"model": "fake", "input": "hi", "stream": True}),
    ("/v1/messages", {"model": "fake", "messages": TURNS, "max_tokens": 90}),
    ("/v1/messages", {"model": "fake", "messages": TURNS, "max_tokens": 90, "stream": True}),
    ("/api/generate", {"model": "fake", "prompt": "hi"}),
    ("/api/chat", {"model": "fake", "messages": TURNS, "stream": False}),
]
OWN = {
    "id", "item_id", "generated_at", "created", "created_at", "completed_at", "record", "total_duration",
    "load_duration", "prompt_eval_duration", "eval_duration", "index",
    "seed",
}  # fmt: skip
"""What belongs to a call by itself: ids, times, records."""


def bench() -> Bench:
    return make_bench(says(' grüße\n\r\n ✓ "quoted" \u2028 data: x\n '), template=True)


def without_own(value: Any) -> Any:
    if isinstance(value, list):
        return [without_own(item) for item in value]
    if isinstance(value, dict):
        return {name: without_own(item) for name, item in value.items() if name not in OWN}
    return value


def shown(body: str) -> list[Any]:
    """The answer's frames, in order; JSON is parsed, and what is a call's own is left out."""
    found = []
    for line in body.split("\n"):
        data = line.removeprefix("data: ")
        found.append(without_own(json.loads(data)) if data.startswith("{") else line)
    return found


@pytest.mark.parametrize(("path", "body"), SURFACES, ids=[f"{path} {body.get('stream')}" for path, body in SURFACES])
async def test_each_surface_gives_the_same_bytes_again(path: str, body: dict[str, Any]) -> None:
    here = bench()
    cold = {"options": {"temperature": 0}} if path.startswith("/api/") else {"temperature": 0}
    async with client_of(here) as client:
        first = await client.post(path, json=body | cold, headers=ASKED)
        again = await client.post(path, json=body | cold, headers=ASKED)
    assert (first.status_code, again.status_code, len(here.engine.requests)) == (200, 200, 1)
    assert "minivault-from-record" not in first.headers
    assert again.headers["minivault-from-record"] == "1"
    assert shown(again.text) == shown(first.text)


async def test_the_native_answer_names_the_record_that_it_was_taken_from() -> None:
    async with client_of(bench()) as client:
        first = await client.post("/generate", json={"prompt": "hi", "seed": 7})
        again = await client.post("/generate", json={"prompt": "hi", "seed": 7}, headers=ASKED)
        lines = await client.post("/generate/stream", json={"prompt": "hi", "seed": 7}, headers=ASKED)
    index = first.json()["record"]["index"]
    assert "from" not in first.json()["record"]
    assert again.json()["record"]["from"] == index
    assert json.loads(lines.text.splitlines()[-1])["record"]["from"] == index


async def test_one_surface_is_answered_from_the_record_of_another() -> None:
    here = bench()
    async with client_of(here) as client:
        chat = {"model": "fake", "messages": TURNS, "seed": 7, "max_tokens": 90}
        first = await client.post("/v1/chat/completions", json=chat)
        again = await client.post("/generate", json={"prompt": "hi", "seed": 7, "max_tokens": 90}, headers=ASKED)
    assert again.json()["record"]["from"] == 1
    assert again.json()["response"] == first.json()["choices"][0]["message"]["content"]


async def test_a_header_of_another_word_is_refused() -> None:
    async with client_of(bench()) as client:
        answer = await client.post("/generate", json={"prompt": "hi"}, headers={next(iter(ASKED)): "maybe"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "MiniVault-Answer-From-Record")
    assert "maybe" not in answer.text


async def test_a_key_is_not_answered_from_another_keys_record() -> None:
    async with keyed_client(bench()) as (client, ring):
        asked = {"prompt": "hi", "seed": 7}
        for name, taken in (("user", None), ("other", None), ("user", "1"), ("admin", "1")):
            answer = await client.post("/generate", json=asked, headers=ring.headers(name) | ASKED)
            assert (answer.status_code, answer.headers.get("minivault-from-record")) == (200, taken)
