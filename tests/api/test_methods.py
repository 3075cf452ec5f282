"""A path that is asked by another method says which it takes, in words and in ``Allow``, on every surface."""

from __future__ import annotations

import pytest

from minivault.api.methods import methods_of
from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/generate", "POST"),
        ("PUT", "/generate/stream", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("PUT", "/models/fake", "GET, HEAD, DELETE"),
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("BREW", "/v1/responses/x", "GET, HEAD, DELETE"),
    ],
)
async def test_a_wrong_method_is_told_all_that_are_right(method: str, path: str, allow: str) -> None:
    async with client_of(make_bench()) as client:
        answer = await client.request(method, path)
    error = answer.json()["error"]
    assert (answer.status_code, answer.headers["allow"], error["code"]) == (405, allow, "method_not_allowed")
    assert error["message"] == f"This path takes only {' and '.join(allow.rsplit(', ', 1))}."
    assert "BREW" not in answer.text


async def test_each_surface_says_it_in_its_own_form() -> None:
    async with client_of(make_bench()) as client:
        ollama = await client.get("/api/chat")
        anthropic = await client.get("/v1/messages")
    assert (ollama.status_code, ollama.json()) == (405, {"error": "This path takes only POST."})
    assert anthropic.json() == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "This path takes only POST."},
    }


@pytest.mark.parametrize("name", ["user", "auditor", "admin"])
async def test_every_key_is_told(name: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        answers = [await client.get(path, headers=keys.headers(name)) for path in ("/v1/messages", "/v1/completions")]
        nothing = await client.get("/v1/nothing", headers=keys.headers(name))
    assert [(answer.status_code, answer.headers["allow"]) for answer in answers] == [(405, "POST")] * 2
    assert nothing.status_code == 404


def test_a_path_without_a_route_has_no_methods() -> None:
    assert methods_of({"type": "http", "path": "/x", "method": "GET"}, []) == ()
