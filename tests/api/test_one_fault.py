"""A body that is wrong in a hundred thousand places costs what one that is wrong in one place costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import minivault.api.app  # noqa: F401 - its routes name what they take
from minivault.api import schema
from minivault.api.wire.batches import NewBatchBody
from minivault.api.wire.native import GenerateRequest
from minivault.api.wire.openai import ChatCompletionRequest
from minivault.api.wire.responses import ResponsesRequest
from minivault.api.wire.strict import AtMost, StrictBody

ASKED = sorted(schema._asked, key=lambda model: model.__name__)
TURN = {"role": "user", "content": "hi"}
MANY = 50_000
MOST_SECONDS = 0.1


def parts_of(core: Any) -> Iterator[Mapping[str, Any]]:
    """Every part of a core schema that says a type."""
    if isinstance(core, dict):
        if isinstance(core.get("type"), str):
            yield core
        for name, inner in core.items():
            if name not in ("metadata", "ref", "serialization"):
                yield from parts_of(inner)
    elif isinstance(core, list | tuple):
        for inner in core:
            yield from parts_of(inner)


def kinds(model: type[BaseModel], kind: str) -> list[Mapping[str, Any]]:
    return [part for part in parts_of(model.__pydantic_core_schema__) if part["type"] == kind]


def test_the_walk_sees_the_lists_of_what_routes_take() -> None:
    assert ChatCompletionRequest in ASKED
    assert len(ASKED) > 15
    assert len(kinds(ChatCompletionRequest, "list")) > 5


@pytest.mark.parametrize("model", ASKED)
def test_every_list_that_may_be_sent_stops_at_its_first_wrong_item(model: type[BaseModel]) -> None:
    assert [part for part in kinds(model, "list") if not part.get("fail_fast")] == []


@pytest.mark.parametrize("model", ASKED)
def test_every_object_whose_entries_are_looked_at_has_a_bound_before_that(model: type[BaseModel]) -> None:
    bounded = [
        part["schema"] for part in kinds(model, "function-before") if isinstance(part["function"]["function"], AtMost)
    ]
    checked = [part for part in kinds(model, "dict") if part.get("values_schema", {"type": "any"})["type"] != "any"]
    assert all(any(part is inner for inner in bounded) for part in checked)


@pytest.mark.parametrize("model", ASKED)
def test_every_body_that_refuses_unknown_fields_tells_one(model: type[BaseModel]) -> None:
    closed = [part["cls"] for part in kinds(model, "model") if part["cls"].model_config.get("extra") == "forbid"]
    assert all(issubclass(found, StrictBody) for found in closed)


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatCompletionRequest, {"messages": [{"role": "user", "content": [0] * MANY}]}),
        (ChatCompletionRequest, {"messages": [TURN], "logit_bias": {str(number): "" for number in range(MANY)}}),
        (ResponsesRequest, {"input": [0] * MANY}),
        (GenerateRequest, {"prompt": "hi", **{f"x{number}": 0 for number in range(MANY)}}),
        (NewBatchBody, {"metadata": {str(number): 0 for number in range(MANY)}}),
    ],
    ids=["parts", "biases", "items", "unknown fields", "metadata"],
)
def test_a_body_that_is_wrong_everywhere_has_few_faults(model: type[BaseModel], body: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    assert caught.value.error_count() < 10
    assert time.process_time() - began < MOST_SECONDS


def test_the_first_unknown_field_is_told() -> None:
    with pytest.raises(ValidationError) as caught:
        GenerateRequest.model_validate({"first": 1, "prompt": "hi", "second": 2})
    assert [fault["loc"] for fault in caught.value.errors()] == [("first",)]
