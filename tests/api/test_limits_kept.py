"""A limit that a client sends is kept or refused by its name, on every surface, and never passed over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import client_of
from tests.fakes import make_bench, says

TURNS = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
@pytest.mark.parametrize("path", BODIES)
async def test_every_name_of_the_limit_limits_on_every_path_of_openai(path: str, name: str) -> None:
    bench = make_bench(says("abcdef"), template=True)
    async with client_of(bench) as client:
        response = await client.post(path, json=BODIES[path] | {name: 3})
    assert response.status_code == 200
    assert bench.engine.requests[0].sampling.max_tokens == 3
    assert bench.ledger.intents[0].ignored == ()


@pytest.mark.parametrize("path", BODIES)
async def test_two_names_with_two_limits_are_refused(path: str) -> None:
    async with client_of(make_bench(template=True)) as client:
        response = await client.post(path, json=BODIES[path] | {"max_tokens": 3, "max_completion_tokens": 4})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (422, "max_tokens")
    assert error["message"] == "max_tokens and max_completion_tokens are one limit: send one"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/responses", {"input": "hi", "max_tool_calls": 3}, "max_tool_calls"),
        ("/v1/responses", {"input": "hi", "reasoning": {"max_tokens": 3}}, "reasoning.max_tokens"),
        ("/v1/chat/completions", {"messages": TURNS, "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        (
            "/v1/chat/completions",
            {"messages": TURNS, "chat_template_kwargs": {"thinking_budget": 3}},
            "chat_template_kwargs.thinking_budget",
        ),
        ("/v1/completions", {"prompt": "hi", "n_predict": 3}, "n_predict"),
        ("/v1/embeddings", {"input": "hi", "truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ("/v1/messages", {"messages": TURNS, "max_tokens": 9, "max_completion_tokens": 3}, "max_completion_tokens"),
        ("/api/generate", {"prompt": "hi", "max_tokens": 3}, "max_tokens"),
        ("/api/chat", {"messages": TURNS, "options": {"max_tokens": 3}}, "options.max_tokens"),
    ],
)
async def test_a_limit_that_is_not_kept_is_refused_by_its_name(path: str, body: dict[str, Any], field: str) -> None:
    bench = make_bench(template=True)
    async with client_of(bench) as client:
        response = await client.post(path, json={"model": "fake"} | body)
    assert response.status_code == 422
    assert f"{field}: " in response.text
    assert bench.ledger.intents == []


async def test_a_limit_of_null_asks_for_nothing() -> None:
    async with client_of(make_bench(template=True)) as client:
        response = await client.post("/v1/responses", json={"input": "hi", "max_tool_calls": None})
    assert response.status_code == 200
