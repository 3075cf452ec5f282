"""Answers held to a form by the real engine and grammars, recorded, and replayed by what the record alone says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from minivault.access.caller import Caller
from minivault.errors import InvalidRequest
from minivault.generation import FinishReason, GenerationRequest, Message, SamplingParams
from minivault.service import ReplayVerdict, Service
from minivault.service.opening import open_service
from minivault.settings import Settings

CALLER = Caller("10.0.0.1")
SCHEMA = {
    "type": "object",
    "properties": {"z": {"enum": ["x", "y"]}, "a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["z", "a"],
    "additionalProperties": False,
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with open_service(Settings(data_dir=tmp_path, threads=1)) as opened:
        yield opened


def ask(response_format: dict[str, Any], request_id: str = "r", max_tokens: int = 64) -> GenerationRequest:
    return GenerationRequest(
        messages=(Message("user", "Give me two fields."),),
        sampling=SamplingParams(seed=3, max_tokens=max_tokens),
        response_format=response_format,
        request_id=request_id,
    )


async def test_an_answer_fits_its_schema_in_its_order_and_its_replay_matches(service: Service) -> None:
    answer = await service.generate(ask({"type": "json_schema", "schema": SCHEMA}), CALLER)
    assert answer.finish_reason is FinishReason.STOP
    jsonschema.validate(json.loads(answer.response), SCHEMA)
    assert list(json.loads(answer.response)) == ["z", "a"]
    recorded = (await service.records.get("r"))["parameters"]["response_format"]
    assert (recorded["kind"], recorded["compiler"].split()[0]) == ("json_schema", "llguidance")
    assert (await service.replay("r", CALLER, request_id="again")).verdict is ReplayVerdict.MATCH
    assert (await service.replay("again", CALLER)).verdict is ReplayVerdict.MATCH


BOUNDED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["a"],
}
TRUTH: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [BOUNDED]},
        {
            "$defs": {"A": BOUNDED},
            "type": "object",
            "properties": {"x": {"allOf": [{"$ref": "#/$defs/A"}], "description": "d"}},
            "required": ["x"],
        },
        TRUTH | {"anyOf": [{"required": ["a"]}]},
        {"type": "object", "required": ["zz"]},
        TRUTH | {"required": ["a", "b"]},
        {"type": "string", "format": "time"},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "duration"},
    ],
)
async def test_an_answer_does_not_run_on_where_its_schema_leaves_room(service: Service, schema: dict[str, Any]) -> None:
    answer = await service.generate(ask({"type": "json_schema", "schema": schema}, max_tokens=150), CALLER)
    assert answer.finish_reason is FinishReason.STOP, answer.response
    jsonschema.validate(json.loads(answer.response), schema)
    assert (await service.replay("r", CALLER)).verdict is ReplayVerdict.MATCH


async def test_patterns_let_no_other_properties_in(service: Service) -> None:
    schema = TRUTH | {"patternProperties": {"^x[0-9]$": {"type": "boolean"}}}
    answer = await service.generate(ask({"type": "json_schema", "schema": schema}), CALLER)
    assert re.fullmatch(r'\{"a": true(, "x[0-9]": (true|false))*.*', answer.response)
    assert set(re.findall(r'"([^"]*)":', answer.response)) <= {"a", *(f"x{digit}" for digit in range(10))}


async def test_what_was_compiled_in_the_end_is_what_is_recorded(service: Service) -> None:
    schema = TRUTH | {"minProperties": 2, "maxProperties": 2}
    await service.generate(ask({"type": "json_schema", "schema": schema}), CALLER)
    recorded = (await service.records.get("r"))["parameters"]["response_format"]
    assert {name: value for name, value in json.loads(recorded["source"]).items() if name != "x-guidance"} == schema
    assert (await service.replay("r", CALLER)).verdict is ReplayVerdict.MATCH


@pytest.mark.parametrize(
    ("response_format", "pattern"),
    [
        ({"type": "regex", "regex": "[a-c]{3}-[0-9]{2}"}, "[a-c]{3}-[0-9]{2}"),
        ({"type": "grammar", "grammar": 'start: "yes" | "no"'}, "yes|no"),
        ({"type": "json_object"}, r"\{.*"),
    ],
)
async def test_answers_fit_expressions_grammars_and_json(
    service: Service, response_format: dict[str, Any], pattern: str
) -> None:
    assert re.fullmatch(pattern, (await service.generate(ask(response_format), CALLER)).response, re.DOTALL)


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "regex", "regex": "("},
        {"type": "grammar", "grammar": "?"},
        {"type": "grammar", "grammar": "start: start"},
        {"type": "json_schema", "schema": {"$ref": "#"}},
    ],
)
async def test_a_grammar_that_is_not_sound_is_refused_and_not_recorded(
    service: Service, response_format: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        await service.generate(ask(response_format), CALLER)
    assert (await service.records.list())["records"] == []
