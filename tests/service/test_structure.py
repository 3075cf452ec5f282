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


def ask(response_format: dict[str, Any], request_id: str = "r") -> GenerationRequest:
    return GenerationRequest(
        messages=(Message("user", "Give me two fields."),),
        sampling=SamplingParams(seed=3, max_tokens=64),
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
