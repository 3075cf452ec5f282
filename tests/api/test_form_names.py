"""What is wrong with an answer's form is told under the field that the client sent it in, on every surface."""

from __future__ import annotations

from typing import Any

import pytest

from minivault.engine.engine import GRAMMAR_TOO_COMPLEX, EngineRequest, TokenStep
from minivault.errors import InvalidRequest
from minivault.generation import FinishReason
from minivault.models.structure import GrammarKind
from tests.api.client import client_of
from tests.fakes import Bench, make_bench

TURNS = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "s3cr3t"}
TOOL = {"name": "look", "parameters": {"type": "s3cr3t"}}
OPENAI_TOOL = {"type": "function", "function": TOOL}
BASE: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"model": "fake", "messages": TURNS, "max_tokens": 5},
    "/api/generate": {"model": "fake", "prompt": "hi"},
    "/api/chat": {"model": "fake", "messages": TURNS},
}


class _RefusesAll:
    """A compiler in whose eyes everything has the same fault."""

    version = "none"

    def prepare(self) -> None:
        pass

    def compile(self, kind: GrammarKind, source: str = "", /) -> Any:
        field = {"regex": "response_format.regex", "lark": "response_format.grammar"}.get(kind, "the JSON Schema")
        where = ", at line 1, column 2" if kind == "lark" else ""
        raise InvalidRequest(f"{field}: a type is unknown{where}", param="response_format")


def refusing() -> Bench:
    bench = make_bench()
    bench.model.grammars = _RefusesAll()
    return bench


async def said_of(bench: Bench, path: str, change: dict[str, Any]) -> tuple[str, str | None]:
    async with client_of(bench) as client:
        answer = await client.post(path, json=BASE[path] | change)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    return (error, None) if isinstance(error, str) else (error["message"], error.get("param"))


FORM = {"type": "json_schema", "schema": SCHEMA}
WRAPPED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
NESTED = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("path", "change", "schema", "param"),
    [
        ("/generate", {"response_format": FORM}, "response_format.schema", "response_format.schema"),
        ("/generate", {"response_format": WRAPPED}, NESTED, NESTED),
        ("/v1/chat/completions", {"response_format": WRAPPED}, NESTED, NESTED),
        ("/v1/completions", {"response_format": FORM}, "response_format.schema", "response_format.schema"),
        ("/v1/responses", {"text": {"format": FORM}}, "text.format.schema", "text.format.schema"),
        ("/v1/messages", {"output_format": FORM}, "output_format.schema", None),
        ("/v1/messages", {"output_config": {"format": FORM}}, "output_config.format.schema", None),
        ("/api/generate", {"format": SCHEMA}, "format", None),
        ("/api/chat", {"format": SCHEMA}, "format", None),
    ],
)
async def test_a_schema_is_called_as_it_was_sent(
    path: str, change: dict[str, Any], schema: str, param: str | None
) -> None:
    assert await said_of(refusing(), path, change) == (f"{schema}: a type is unknown", param)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/chat/completions", {"tools": [OPENAI_TOOL], "tool_choice": "required"}),
        ("/v1/responses", {"tools": [{"type": "function", **TOOL}], "tool_choice": "required"}),
        ("/v1/messages", {"tools": [{"name": "look", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}}),
    ],
)
async def test_a_schema_of_a_tool_is_told_as_that(path: str, change: dict[str, Any]) -> None:
    assert (await said_of(refusing(), path, change))[0] == "tools: the parameters of the tool: a type is unknown"


async def test_beside_tools_the_fault_may_lie_in_either() -> None:
    change = {"tools": [OPENAI_TOOL], "format": SCHEMA}
    assert await said_of(refusing(), "/api/chat", change) == (
        "tools or format: the parameters of the tool: a type is unknown",
        None,
    )


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("/api/generate", {"format": "json"}, "format: this model's engine cannot hold answers to a form"),
        ("/v1/responses", {"text": {"format": FORM}}, "text.format: this model's engine cannot hold answers to a form"),
        ("/v1/responses", {"text": {"format": {"type": "json_schema"}}}, "text.format.schema must be a JSON Schema"),
        ("/v1/chat/completions", {"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ("/v1/chat/completions", {"tools": [OPENAI_TOOL], "tool_choice": "required"}, "tool_choice: this model's"),
    ],
)
async def test_so_is_what_no_schema_is_at_fault_for(path: str, change: dict[str, Any], said: str) -> None:
    assert (await said_of(make_bench(), path, change))[0].startswith(said)


@pytest.mark.parametrize(
    ("path", "form", "param"),
    [
        ("/generate", {"type": "json_schema"}, "response_format.schema"),
        ("/generate", {"type": "json_schema", "json_schema": {"name": "x"}}, NESTED),
        ("/v1/chat/completions", {"type": "json_schema"}, NESTED),
        ("/generate", {"type": "regex", "regex": "s3cr3t"}, "response_format.regex"),
        ("/generate", {"type": "grammar", "grammar": "s3cr3t"}, "response_format.grammar"),
        ("/generate", {"type": "grammar"}, "response_format.grammar"),
        ("/generate", {"type": "s3cr3t"}, "response_format"),
    ],
)
async def test_the_field_for_programs_is_the_one_that_the_message_names(
    path: str, form: dict[str, Any], param: str
) -> None:
    message, told = await said_of(refusing(), path, {"response_format": form})
    assert (message[: len(param)], told) == (param, param)
    assert not message[len(param)].isalnum()
    assert message[len(param)] != "."


@pytest.mark.parametrize(
    ("path", "choice"),
    [
        ("/v1/chat/completions", "required"),
        ("/v1/chat/completions", {"type": "function", "function": {"name": "look"}}),
        ("/v1/responses", "required"),
        ("/v1/messages", {"type": "any"}),
        ("/v1/messages", {"type": "tool", "name": "look"}),
    ],
)
async def test_a_call_without_tools_asks_for_tools(path: str, choice: Any) -> None:
    message, _ = await said_of(make_bench(), path, {"tool_choice": choice})
    assert message == "tool_choice: a tool must be called, so tools must offer one"


async def test_a_choice_of_another_tool_is_told_from_no_tools() -> None:
    choice = {"type": "function", "function": {"name": "s3cr3t"}}
    change = {"tools": [OPENAI_TOOL], "tool_choice": choice}
    said = await said_of(make_bench(), "/v1/chat/completions", change)
    assert said == ("tool_choice: its tool is not one of tools", "tool_choice")


class _TakesAll:
    """A compiler whose grammars are followed by nobody here."""

    version = "none"

    def prepare(self) -> None:
        pass

    def compile(self, kind: GrammarKind, source: str = "", /) -> Any:
        return object()


def becomes_too_complex(_: EngineRequest) -> list[TokenStep]:
    return [TokenStep((), finish_reason=FinishReason.FAILED, error=GRAMMAR_TOO_COMPLEX)]


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("/generate", {"response_format": FORM}, "response_format.schema"),
        ("/generate", {"response_format": {"type": "grammar", "grammar": "x"}}, "response_format"),
        ("/v1/responses", {"text": {"format": FORM}}, "text.format.schema"),
        ("/api/chat", {"format": SCHEMA, "stream": False}, "format"),
        ("/v1/chat/completions", {"tools": [OPENAI_TOOL], "tool_choice": "required"}, "tools"),
        (
            "/v1/messages",
            {"tools": [{"name": "look", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
            "tools",
        ),
    ],
)
async def test_a_form_that_becomes_too_complex_is_called_as_it_was_sent(
    path: str, change: dict[str, Any], field: str
) -> None:
    bench = make_bench(becomes_too_complex)
    bench.model.grammars = _TakesAll()
    message, param = await said_of(bench, path, change)
    assert message == f"{field}: {GRAMMAR_TOO_COMPLEX}"
    assert param in (None, field)
