"""Whatever a model writes: it is read without an error, the same in any cuts, and every surface can send it on."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minivault.api.wire.lenient import as_object
from minivault.generation import Message, ToolCall
from minivault.models.reasoning import Reasoning, answer_parser
from minivault.models.tool_calls import Dialect, Said, parser_for, told_in_words

TOOLS = tuple({"type": "function", "function": {"name": name}} for name in ("f", "g"))
PIECES = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<think>", "</think>", '{"name": "f", "arguments": ', "}", "]", "[",
    "{", '"', "\\", '{"a": "', "\n", " ", ";", "NaN", "Infinity", "1e999", '"\\ud83d"', '{"name": ["f"]}', "null",
    "9" * 5000, "[" * 2000, "]" * 2000, "é🐕", '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}',
)  # fmt: skip
ANSWERS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=12).map("".join)


def read(dialect: Dialect, pieces: list[str], begins: Reasoning | None = None) -> Said:
    parser = answer_parser(begins, parser_for(dialect, TOOLS, "r"))
    assert parser is not None
    said = [*map(parser.push, pieces), parser.finish()]
    return Said(
        "".join(one.text for one in said),
        tuple(call for one in said for call in one.calls),
        "".join(one.thinking for one in said),
    )


def tagged(call: str) -> str:
    return f"<tool_call>\n{call}\n</tool_call>"


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("begins", [None, *Reasoning])
@given(answer=ANSWERS, cuts=st.lists(st.integers(0, 300), max_size=8))
@example(answer='<tool_call>{"name": ["f"], "arguments": {}}</tool_call>', cuts=[])
@example(answer='<tool_call>{"name": "f", "arguments": {"x": "\\ud83d"}}</tool_call>', cuts=[])
def test_any_answer_is_read_alike_in_any_cuts_and_can_be_sent_on(
    dialect: Dialect, begins: Reasoning | None, answer: str, cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    said = read(dialect, [answer[start:end] for start, end in itertools.pairwise(places)], begins)
    assert said == read(dialect, [answer], begins)
    json.dumps([said.text, said.thinking], ensure_ascii=False).encode()
    for call in said.calls:
        assert call.name in ("f", "g")
        for told in (call.arguments, as_object(call.arguments)):
            json.dumps(told, ensure_ascii=False, allow_nan=False).encode()


UNSOUND = {
    "a name that is a list": '{"name": ["f"], "arguments": {}}',
    "a name that is an object": '{"name": {}, "arguments": {}}',
    "half a surrogate pair": '{"name": "f", "arguments": {"x": "\\ud83d"}}',
    "half a pair in a key": '{"name": "f", "arguments": {"\\ud83d": 1}}',
    "half a pair in a text of arguments": '{"name": "f", "arguments": "{\\"x\\": \\"\\\\ud83d\\"}"}',
    "NaN": '{"name": "f", "arguments": {"x": NaN}}',
    "NaN in a text of arguments": '{"name": "f", "arguments": "{\\"x\\": NaN}"}',
    "a number beyond all bounds": '{"name": "f", "arguments": {"x": -1e999}}',
    "deep nesting": '{"name": "f", "arguments": {"x": ' + "[" * 300 + "]" * 300 + "}}",
    "nesting without end": '{"name": "f", "arguments": {"x": ' + "[" * 9000 + "]" * 9000 + "}}",
}


@pytest.mark.parametrize("name", UNSOUND)
@pytest.mark.parametrize("dialect", Dialect)
def test_a_call_that_cannot_be_sent_on_stays_text(dialect: Dialect, name: str) -> None:
    call = UNSOUND[name]
    answer = {Dialect.TAGGED: tagged(call), Dialect.OBJECT: call, Dialect.LIST: f"[{call}]"}[dialect]
    assert read(dialect, [answer]) == Said(answer)


@pytest.mark.parametrize("text", ["</tool_call>", 'a "</tool_call>" b', "\\", "<tool_call>{}</tool_call>"])
def test_arguments_may_hold_the_tags_themselves(text: str) -> None:
    arguments = json.dumps({"x": text})
    answer = tagged(f'{{"name": "f", "arguments": {arguments}}}')
    [call] = read(Dialect.TAGGED, [*answer]).calls
    assert json.loads(call.arguments) == {"x": text}
    [told] = told_in_words([Message("assistant", "", tool_calls=(ToolCall("c", "f", arguments),))], ())
    assert told.content.count("</tool_call>") == 1
    [again] = read(Dialect.TAGGED, [told.content]).calls
    assert json.loads(again.arguments) == {"x": text}


@pytest.mark.parametrize("broken", ['{"name": "f}\n', '"</tool_call>"', '{"name": "f', 'don"t '])
def test_a_broken_call_takes_no_sound_one_with_it(broken: str) -> None:
    sound = tagged('{"name": "g", "arguments": {}}')
    said = read(Dialect.TAGGED, [f"<tool_call>{broken}</tool_call>{sound}"])
    assert [call.name for call in said.calls] == ["g"]
    assert said.text.startswith("<tool_call>")


COSTLY: dict[str, tuple[Dialect, str]] = {
    "empty calls": (Dialect.TAGGED, "<tool_call></tool_call>"),
    "open strings": (Dialect.TAGGED, '<tool_call>{"</tool_call>'),
    "escaped quotes": (Dialect.TAGGED, '<tool_call>{\\"</tool_call>'),
    "closing tags in a string": (Dialect.TAGGED, "</tool_call>"),
    "values": (Dialect.OBJECT, "{} "),
}


@pytest.mark.parametrize("name", COSTLY)
def test_reading_takes_time_in_proportion_to_the_answer(name: str) -> None:
    dialect, piece = COSTLY[name]
    answer = ('<tool_call>{"' if dialect is Dialect.TAGGED else "") + piece * 40_000
    began = time.process_time()
    read(dialect, [answer])
    assert time.process_time() - began < 10  # quadratic it would be minutes


def test_an_object_is_made_of_any_arguments() -> None:
    found: list[Any] = [as_object(text) for text in ('{"a": 1}', "[1]", "words", "[" * 9000)]
    assert found == [{"a": 1}, {"value": [1]}, {"value": "words"}, {"value": "[" * 9000}]
