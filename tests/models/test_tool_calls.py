"""Tools told to models, answers held to calls, and calls read from answers, in each family's way."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.generation import Message, ToolCall
from minivault.models.call_text import OpenCall
from minivault.models.structure import Structure
from minivault.models.tool_calls import Dialect, Said, dialect_of, parser_for, structure_of_calls, told_in_words

ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/N"}, "b": {"$ref": "#/$defs/N"}},
            "required": ["a", "b"],
            "$defs": {"N": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}
TOOLS = (ADD, NOW)

CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
ANSWERS = {
    "one call": (Dialect.TAGGED, f"<tool_call>\n{CALL}\n</tool_call>", "", ["add"]),
    "words and two calls": (
        Dialect.TAGGED,
        f'I will.\n\n<tool_call>{CALL}</tool_call>\n<tool_call>\n{{"name": "now"}}\n</tool_call>\n',
        "I will.",
        ["add", "now"],
    ),
    "a call whose end is missing": (Dialect.TAGGED, f"<tool_call>\n{CALL}", "", ["add"]),
    "a call that was cut": (Dialect.TAGGED, "<tool_call>\n" + CALL[:20], "<tool_call>\n" + CALL[:20], []),
    "a tool that is none": (
        Dialect.TAGGED,
        '<tool_call>{"name": "rm"}</tool_call>',
        '<tool_call>{"name": "rm"}</tool_call>',
        [],
    ),
    "words alone": (Dialect.TAGGED, " a < b <tool and\n", " a < b <tool and\n", []),
    "llama": (Dialect.OBJECT, '\n{"name": "add", "parameters": {"a": 1, "b": 2}}', "", ["add"]),
    "llama, two": (Dialect.OBJECT, f'{CALL}; {{"name": "now", "parameters": {{}}}}', "", ["add", "now"]),
    "llama, words": (Dialect.OBJECT, "It is {5}.", "It is {5}.", []),
    "llama, another object": (Dialect.OBJECT, '{"answer": 5}', '{"answer": 5}', []),
    "mistral": (Dialect.LIST, f'[TOOL_CALLS] [{CALL}, {{"name": "now", "arguments": {{}}}}]', "", ["add", "now"]),
    "mistral, its mark unseen": (Dialect.LIST, f"[{CALL}]", "", ["add"]),
    "mistral, a list in words": (Dialect.LIST, "[1] is a note.", "[1] is a note.", []),
}


def read(dialect: Dialect, pieces: list[str], *, several: bool = True) -> Said:
    parser = parser_for(dialect, TOOLS, "r", several=several)
    said = [*map(parser.push, pieces), parser.finish()]
    return Said("".join(one.text for one in said), tuple(call for one in said for call in one.calls))


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_and_words_are_told_apart(name: str) -> None:
    dialect, answer, words, calls = ANSWERS[name]
    said = read(dialect, [answer])
    assert (said.text, [call.name for call in said.calls]) == (words, calls)
    for call in said.calls:
        assert isinstance(json.loads(call.arguments), dict)


@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=st.lists(st.integers(0, 120), max_size=12))
def test_what_was_said_does_not_depend_on_how_the_answer_was_cut(name: str, cuts: list[int]) -> None:
    dialect, answer, _, _ = ANSWERS[name]
    places = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    pieces = [answer[start:end] for start, end in itertools.pairwise(places)]
    assert read(dialect, pieces) == read(dialect, [answer])


NO_CALLS = ['<tool_call>{"</tool_call>"', '<tool_call>{"</tool_call>', '<tool_call>{"a":"\\"</tool_call>"}']


@pytest.mark.parametrize("end", ["", "}</tool_call>", "\x01", '"\x01</tool_call>'])
@pytest.mark.parametrize("unit", NO_CALLS)
def test_closing_tags_in_strings_do_not_have_an_answer_read_again_and_again(
    unit: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[int] = []
    push = OpenCall.push

    def counted(call: OpenCall, text: str) -> int | None:
        pushed.append(len(text))
        return push(call, text)

    monkeypatch.setattr(OpenCall, "push", counted)
    answer = unit * 1000 + end
    said = read(Dialect.TAGGED, [answer])
    # Once and eight times more; and what follows a call in its piece is handed over again.
    assert sum(pushed) < 10 * len(answer) + 1000 * 4096
    assert (said.text, said.calls) == (answer, ())
    assert read(Dialect.TAGGED, [answer[at : at + 7] for at in range(0, len(answer), 7)]) == said


@pytest.mark.parametrize("dialect", Dialect)
def test_of_an_answer_held_to_calls_what_was_cut_is_no_text_and_the_calls_before_it_count(dialect: Dialect) -> None:
    two = {
        Dialect.TAGGED: f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
        Dialect.OBJECT: CALL,
        Dialect.LIST: f"[{CALL}, {CALL}]",
    }[dialect]
    for end in range(1, len(two)):
        parser = parser_for(dialect, TOOLS, "r", must=True)
        said = [*map(parser.push, two[:end]), parser.finish()]
        assert [one.text for one in said if one.text] == []
        assert len([call for one in said for call in one.calls]) == two[:end].count("}}")


def test_words_before_a_call_do_not_wait_for_it() -> None:
    parser = parser_for(Dialect.TAGGED, TOOLS, "r")
    assert parser.push("Let me see <").text == "Let me see"
    assert parser.push("3").text == " <3"


def test_ids_of_calls_differ_and_follow_from_the_answer() -> None:
    ids = [call.id for call in read(Dialect.TAGGED, [f"<tool_call>{CALL}</tool_call>" * 2]).calls]
    assert len(set(ids)) == 2
    assert ids == [call.id for call in read(Dialect.TAGGED, [f"<tool_call>{CALL}</tool_call>" * 2]).calls]
    [mistral] = read(Dialect.LIST, [f"[{CALL}]"]).calls
    assert len(mistral.id) == 9


def test_at_most_one_call_where_several_are_not_wanted() -> None:
    assert len(read(Dialect.TAGGED, [f"<tool_call>{CALL}</tool_call>" * 2], several=False).calls) == 1


@pytest.mark.parametrize("dialect", [Dialect.OBJECT, Dialect.LIST])
def test_the_form_of_calls_is_a_schema_whose_references_lead_somewhere(dialect: Dialect) -> None:
    structure = structure_of_calls(TOOLS, dialect, several=True)
    schema = json.loads(structure.source)
    name = "parameters" if dialect is Dialect.OBJECT else "arguments"
    good, bad = {"name": "add", name: {"a": 1, "b": 2}}, {"name": "add", name: {"a": 1, "b": 20}}
    wrap = (lambda one: one) if dialect is Dialect.OBJECT else (lambda one: [one])
    jsonschema.validate(wrap(good), schema)
    for wrong in (bad, {"name": "rm", name: {}}, {"name": "now", name: {"x": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrap(wrong), schema)


def test_the_tagged_form_is_a_grammar_around_the_same_schema() -> None:
    one = structure_of_calls((NOW,), Dialect.TAGGED, several=False)
    many = structure_of_calls((NOW,), Dialect.TAGGED, several=True)
    assert (one.kind, one.source.splitlines()[0]) == ("lark", "start: call")
    assert many.source.splitlines()[0] == 'start: call ("\\n" call){0,7}'
    assert isinstance(one, Structure)


def test_a_model_that_knows_no_tools_is_told_in_words_of_those_and_of_what_was_called() -> None:
    turns = (
        Message("system", "Be brief."),
        Message("assistant", "", tool_calls=(ToolCall("c", "add", '{"a": 1}'),)),
        Message("tool", "3", tool_call_id="c"),
    )
    system, called, result = told_in_words(turns, TOOLS)
    assert system.content.startswith("Be brief.\n\nYou can call")
    assert all(json.dumps(tool["function"]) in system.content for tool in TOOLS)
    assert called.content == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert (result.role, result.content) == ("user", "<tool_response>\n3\n</tool_response>")


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        ("{% if tools %}<tool_call>{% endif %}", Dialect.TAGGED),
        ("[AVAILABLE_TOOLS]{{ tools }}[TOOL_CALLS]", Dialect.LIST),
        ("{{ tools }}'\"parameters\": ' ipython", Dialect.OBJECT),
        ("{{ tools }}", None),
        ("{{ messages }}", None),
    ],
)
def test_a_dialect_is_known_by_its_template(template: str, dialect: Dialect | None) -> None:
    assert dialect_of(template) is dialect
