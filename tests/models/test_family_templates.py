"""Templates in the ways of well-known families, tools and reasoning included, render as Transformers renders them."""

# mypy: disable-error-code="import-not-found"
# why: Transformers lives in an environment of its own, where types are checked without it

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from minivault.generation import JsonObject, Message, ToolCall
from minivault.models.chat_template import DEFAULT_DATE, ChatTemplate
from tests.models.families_of_templates import TEMPLATES, WITH_TOOLS

# What Transformers gave for each case: `pytest tests/models/test_family_templates.py -k transformers` holds it to that.
GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "family_templates.json").read_text(encoding="utf-8"))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = Message("system", "Be brief. ")
TURNS = (Message("user", " What is <b>2 & 2</b>?\n"), Message("assistant", "Four."), Message("user", "Grüße 🐕 '\"\\"))
WEATHER: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The weather <now> & "here", in °C',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLED = (
    Message("user", "And in Köln?"),
    Message("assistant", "", tool_calls=(ToolCall("call12345", "weather", '{"city": "K\\u00f6ln <1>", "days": 2}'),)),
    Message("tool", '{"c": 7}', name="weather", tool_call_id="call12345"),
)
CASES: dict[str, tuple[tuple[Message, ...], tuple[JsonObject, ...]]] = {
    "plain": (TURNS, ()),
    "system": ((SYSTEM, *TURNS), ()),
    "tools": ((SYSTEM, *TURNS), (WEATHER,)),
    "called": ((SYSTEM, *CALLED), (WEATHER,)),
}
PAIRS = [
    (family, case) for family in TEMPLATES for case in CASES if family in WITH_TOOLS or case in ("plain", "system")
]


@pytest.mark.parametrize(("family", "case"), PAIRS)
def test_a_familys_turns_are_rendered_as_written_down(family: str, case: str) -> None:
    messages, tools = CASES[case]
    template = ChatTemplate.compile(TEMPLATES[family], TOKENS)
    assert template.render(messages, tools=tools) == GOLDEN[f"{family} {case}"]


def test_every_case_is_written_down() -> None:
    assert set(GOLDEN) == {f"{family} {case}" for family, case in PAIRS}


def test_a_model_that_reasons_is_told_when_it_shall_not() -> None:
    template = ChatTemplate.compile(TEMPLATES["qwen"], TOKENS)
    assert template.render(TURNS, think=False).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert template.render(TURNS, think=True) == template.render(TURNS) == GOLDEN["qwen plain"]


@pytest.mark.torch
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="Transformers is not installed: its renderings cannot be compared",
)
@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
@pytest.mark.parametrize(("family", "case"), PAIRS)
def test_transformers_renders_what_is_written_down(family: str, case: str) -> None:
    assert theirs(family, case) == GOLDEN[f"{family} {case}"]


def theirs(family: str, case: str) -> str:
    """With our day in the place of today, which is all that their clock knows."""
    from transformers.utils.chat_template_utils import render_jinja_template

    messages, tools = CASES[case]
    source = TEMPLATES[family].replace("strftime_now('%d %b %Y')", repr(DEFAULT_DATE.strftime("%d %b %Y")))
    found, _ = render_jinja_template(
        [in_their_form(messages)],
        chat_template=source,
        tools=[dict(tool) for tool in tools] or None,
        add_generation_prompt=True,
        **TOKENS,
    )
    return str(found[0])


def in_their_form(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """As a user of Transformers writes them: calls with their arguments as objects."""
    found: list[dict[str, Any]] = []
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id,
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call in message.tool_calls
            ]
        found.append(turn)
    return found
