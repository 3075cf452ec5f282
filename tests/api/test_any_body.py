"""Whatever JSON is sent to a surface, the answer is one that its documentation declares, and never a fault of ours."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from minivault.api.wire.anthropic import CountBody, MessagesBody
from minivault.api.wire.ollama import ChatBody, ChatMessage, GenerateBody, NameBody, Options
from tests.api.client import client_of
from tests.fakes import make_bench, says

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["fake", "user", "assistant", "json", "text", "10m", "0"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def some_of(*models: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the models' fields, and anything in them."""
    names = sorted({field.alias or name for model in models for name, field in model.model_fields.items()})
    return st.dictionaries(st.sampled_from([*names, "type", "text"]), ANYTHING, max_size=5)


def bodies(base: dict[str, Any], model: type[BaseModel], parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A body that would do, with some of its fields replaced."""
    nested = st.fixed_dictionaries(
        {},
        optional={name: parts | st.lists(parts, max_size=2) for name in ("messages", "options", "system", "thinking")},
    )
    return st.builds(lambda over, deep: base | over | deep, some_of(model), nested)


TURNS = [{"role": "user", "content": "hi"}]
TURN = some_of(ChatMessage, Options)
CASES = [
    ("/api/generate", bodies({"model": "fake", "prompt": "hi"}, GenerateBody, TURN)),
    ("/api/chat", bodies({"model": "fake", "messages": TURNS}, ChatBody, TURN)),
    ("/api/show", bodies({"model": "fake"}, NameBody, TURN)),
    ("/v1/messages", bodies({"model": "fake", "max_tokens": 9, "messages": TURNS}, MessagesBody, TURN)),
    ("/v1/messages/count_tokens", bodies({"model": "fake", "messages": TURNS}, CountBody, TURN)),
]


@pytest.mark.parametrize(("path", "strategy"), CASES, ids=[path for path, _ in CASES])
def test_any_body_gets_a_declared_answer(path: str, strategy: st.SearchStrategy[dict[str, Any]]) -> None:
    @settings(max_examples=60)
    @given(strategy)
    def holds(body: dict[str, Any]) -> None:
        anyio.run(answered, path, body)

    holds()


async def answered(path: str, body: dict[str, Any]) -> None:
    bench = make_bench(says("ab"), template=True)
    async with client_of(bench) as client:
        response = await client.post(path, json=body)
    assert response.status_code in (200, 400, 404, 422), response.text
    assert len(bench.ledger.intents) == len(bench.ledger.outcomes)
    if response.status_code == 200 and bench.ledger.outcomes:
        assert bench.outcome.finish_reason in ("stop", "length")
