"""Answers with characters that end a line to some readers and not to JSON, read by the real packages."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import ollama
import openai
import pytest

from tests.clients.packages import Package, each_package
from tests.clients.scripted import Scripted
from tests.e2e.server import PATIENCE
from tests.fakes import says

ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""All at which ``str.splitlines`` ends a line."""
SAID = "".join(f"{place}{end}" for place, end in enumerate(ENDS)) + "\r\n\n ünd \U0001f600"
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TURNS = [{"role": "user", "content": "hi"}]
STREAMS: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "hi", "stream": True},
    "/generate/stream": {"prompt": "hi"},
    "/v1/chat/completions": {"model": "fake", "messages": TURNS, "stream": True},
    "/v1/completions": {"model": "fake", "prompt": "hi", "stream": True, "max_tokens": 99},
    "/v1/responses": {"model": "fake", "input": "hi", "stream": True},
    "/v1/messages": {"model": "fake", "messages": TURNS, "stream": True, "max_tokens": 99},
    "/api/chat": {"model": "fake", "messages": TURNS},
    "/api/generate": {"model": "fake", "prompt": "hi"},
}


@pytest.fixture(params=[1, 5, 1000])
def server(running: Scripted, request: pytest.FixtureRequest) -> Scripted:
    running.forget()
    running.bench.engine.answer = says(SAID, at_once=request.param)
    return running


@each_package
def test_every_line_end_arrives_in_streams_and_in_whole_answers(server: Scripted, package: Package) -> None:
    with package.client(server.url) as client:
        assert "".join(package.piece(event) for event in package.ask(client, stream=True)) == SAID
        assert package.text(package.ask(client)) == SAID


@each_package
async def test_every_line_end_arrives_at_async_clients(server: Scripted, package: Package) -> None:
    async with package.async_client(server.url) as client:
        assert "".join([package.piece(event) async for event in await package.ask(client, stream=True)]) == SAID


@pytest.mark.parametrize("path", STREAMS)
def test_no_line_of_a_stream_ends_but_where_it_is_meant_to(server: Scripted, path: str) -> None:
    with httpx2.stream(
        "POST", server.url + path, json=STREAMS[path], headers={"x-api-key": "k"}, timeout=PATIENCE
    ) as response:
        lines = list(response.iter_lines())
    assert response.status_code == 200
    data = [line.removeprefix("data: ") for line in lines if line and not line.startswith(("event: ", "data: [DONE]"))]
    assert all(type(json.loads(line)) is dict for line in data)


def test_calls_of_tools_have_their_line_ends_in_ollamas_lines(server: Scripted) -> None:
    server.bench.engine.answer = says(_call())
    with ollama.Client(host=server.url) as client:
        parts = list(client.chat("fake", TURNS, tools=[TOOL], stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [call.function.arguments for call in calls] == [{"x": ENDS}]


def test_calls_of_tools_have_their_line_ends_in_openais_events(server: Scripted) -> None:
    server.bench.engine.answer = says(_call())
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        turns: Any = TURNS
        parts = list(client.chat.completions.create(model="fake", messages=turns, tools=[TOOL], stream=True))
    calls = [call for part in parts for choice in part.choices for call in choice.delta.tool_calls or ()]
    said = "".join(call.function.arguments or "" for call in calls if call.function)
    assert json.loads(said) == {"x": ENDS}


def _call() -> str:
    said = {"name": "f", "arguments": {"x": ENDS}}
    return f"<tool_call>{json.dumps(said, ensure_ascii=False)}</tool_call>"
