"""A model on another server, through the surfaces: each choice's log-probabilities, and limits that nobody gave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine.upstream import Asked, Reply, events, says
from tests.service.test_remote_model import far

HI = [{"role": "user", "content": "hi"}]
SEEDS = {7: ["One"], 8: ["Two", " and", " more"], 9: ["Three", " é"]}
"""The tokens of the answer to a seed: of different numbers, so that no choice can pass for another."""


async def tells_by_seed(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer to a conversation, with log-probabilities."""
    pieces = [
        {
            "delta": {"content": token},
            "logprobs": {"content": [{"token": token, "logprob": -0.5, "bytes": list(token.encode())}]},
        }
        for token in SEEDS[asked.body["seed"]]
    ]
    ended: dict[str, Any] = {"delta": {}, "finish_reason": "stop"}
    await events(*({"choices": [piece]} for piece in [*pieces, ended]))(asked, writer)


async def tells_by_prompt(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer to a bare prompt: its words, in upper case."""
    tokens = asked.body["prompt"].upper().split(" ")
    told = {
        "tokens": tokens,
        "token_logprobs": [-0.5] * len(tokens),
        "top_logprobs": [{token: -0.5} for token in tokens],
    }
    await events({"choices": [{"text": "".join(tokens), "logprobs": told, "finish_reason": "stop"}]})(asked, writer)


def told_in(stream: str) -> dict[int, list[str]]:
    """The tokens of each choice of a stream, as its log-probabilities name them."""
    found: dict[int, list[str]] = {}
    for line in stream.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                told = choice["logprobs"] or {}
                tokens = told.get("tokens") or [one["token"] for one in told.get("content", ())]
                found.setdefault(choice["index"], []).extend(tokens)
    return found


async def test_each_choice_of_a_chat_tells_its_own_tokens() -> None:
    body = {"model": "far", "messages": HI, "n": 3, "seed": 7, "logprobs": True}
    async with far(tells_by_seed) as bench, bench.client() as client:
        answer = (await client.post("/v1/chat/completions", json=body)).json()
    told = [[one["token"] for one in choice["logprobs"]["content"]] for choice in answer["choices"]]
    assert told == list(SEEDS.values())
    assert answer["choices"][2]["logprobs"]["content"][1]["bytes"] == list(" é".encode())


@pytest.mark.parametrize(
    "tools", [[], [{"type": "function", "function": {"name": "add"}}]], ids=["plain", "with tools"]
)
async def test_each_choice_of_a_streamed_chat_tells_its_own_tokens(tools: list[Any]) -> None:
    body = {"model": "far", "messages": HI, "n": 3, "seed": 7, "logprobs": True, "stream": True, "tools": tools}
    async with far(tells_by_seed) as bench, bench.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert told_in(answer.text) == dict(enumerate(SEEDS.values()))


@pytest.mark.parametrize("prompts", [["hi", "Once upon"], ["Once upon", "hi"]], ids=["longer last", "shorter last"])
async def test_each_choice_of_a_text_tells_its_own_tokens(prompts: list[str]) -> None:
    body = {"model": "far", "prompt": prompts, "logprobs": 1}
    async with far(tells_by_prompt) as bench, bench.client() as client:
        whole = (await client.post("/v1/completions", json=body)).json()
        streamed = await client.post("/v1/completions", json=body | {"stream": True})
    wanted = [prompt.upper().split(" ") for prompt in prompts]
    assert [choice["logprobs"]["tokens"] for choice in whole["choices"]] == wanted
    tops = [[next(iter(top)) for top in choice["logprobs"]["top_logprobs"]] for choice in whole["choices"]]
    assert tops == wanted
    assert told_in(streamed.text) == dict(enumerate(wanted))


async def sent_by(path: str, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """What the server behind was sent for a request that was answered."""
    async with far(reply) as bench, bench.client() as client:
        answer = await client.post(path, json={"model": "far", "stream": False} | body)
        assert answer.status_code == 200
        [sent] = bench.upstream.bodies
    assert isinstance(sent, dict)
    return sent


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/chat/completions", {"messages": HI}, {"max_completion_tokens": 9}),
        ("/v1/chat/completions", {"messages": HI}, {"max_tokens": 1_000_000}),
        ("/v1/responses", {"input": "hi"}, {"max_output_tokens": 9}),
        ("/api/chat", {"messages": HI}, {"options": {"num_predict": 9}}),
        ("/api/generate", {"prompt": "hi"}, {"options": {"num_predict": 9}}),
        ("/api/generate", {"prompt": "hi", "raw": True}, {"options": {"num_predict": 9}}),
    ],
    ids=["chat", "chat, the most", "responses", "ollama chat", "ollama generate", "ollama raw"],
)
async def test_a_limit_is_sent_on_where_the_caller_gave_one_alone(
    path: str, body: dict[str, Any], limit: dict[str, Any]
) -> None:
    given = limit.get("options", limit)
    assert "max_tokens" not in await sent_by(path, body, says("yes"))
    assert (await sent_by(path, body | limit, says("yes")))["max_tokens"] == next(iter(given.values()))


async def test_ollama_without_end_sends_no_limit() -> None:
    body = {"messages": HI, "options": {"num_predict": -1}}
    assert "max_tokens" not in await sent_by("/api/chat", body, says("yes"))


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/completions", {"prompt": "hi"}, 16),
        ("/generate", {"prompt": "hi"}, 256),
        ("/v1/messages", {"messages": HI, "max_tokens": 32_000}, 32_000),
    ],
    ids=["texts", "native", "anthropic"],
)
async def test_a_limit_that_the_surface_promises_or_demands_is_sent_on(
    path: str, body: dict[str, Any], limit: int
) -> None:
    assert (await sent_by(path, body, says("yes")))["max_tokens"] == limit
