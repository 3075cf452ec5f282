"""Reasoning told apart from the answer, wherever the answer is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.generation import Message
from minivault.models.chat_template import ChatTemplate
from minivault.models.reasoning import Reasoning, ReasoningParser, answer_parser, reasoning_of, reasons
from minivault.models.tool_calls import Dialect, Said, parser_for

TOOLS = ({"type": "function", "function": {"name": "now"}},)
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DEEPSEEK = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}<|Assistant|><think>\n"

ANSWER, PROMPT = Reasoning.IN_ANSWER, Reasoning.IN_PROMPT
ANSWERS: dict[str, tuple[Reasoning, str, str, str, list[str]]] = {
    "a block and words": (ANSWER, "<think>\nWhy < not?\n</think>\n\nBe cause.", "Why < not?", "Be cause.", []),
    "white space before the block": (ANSWER, " \n<think>a</think>b ", "a", "b ", []),
    "no block": (ANSWER, " <thin air> and </think>", "", " <thin air> and </think>", []),
    "an empty block": (ANSWER, "<think>\n\n</think>\n\nYes.", "", "Yes.", []),
    "a block that was cut": (ANSWER, "<think>It goes on </thi", "It goes on </thi", "", []),
    "a tag that was cut": (ANSWER, "\n<thi", "", "\n<thi", []),
    "nothing but space": (ANSWER, " \n", "", " \n", []),
    "a later block is words": (ANSWER, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>", []),
    "opened by the prompt": (PROMPT, "Hm.\n\nSo.\n</think>\n\nFive.", "Hm.\n\nSo.", "Five.", []),
    "opened and never closed": (PROMPT, "Hm. So ", "Hm. So", "", []),
    "opened, and opened again": (PROMPT, "<b></think>x", "<b>", "x", []),
    "a call after the block": (ANSWER, f"<think>Time?</think>\n\n{CALL}", "Time?", "", ["now"]),
    "a call within the block is none": (ANSWER, f"<think>{CALL}</think>No.", CALL, "No.", []),
    "words and a call": (PROMPT, f"t</think>I look.\n{CALL}", "t", "I look.", ["now"]),
}


def read(begins: Reasoning, pieces: list[str]) -> list[Said]:
    parser = ReasoningParser(begins, parser_for(Dialect.TAGGED, TOOLS, "r"))
    return [*map(parser.push, pieces), parser.finish()]


def joined(said: list[Said]) -> tuple[str, str, list[str]]:
    calls = [call.name for one in said for call in one.calls]
    return "".join(one.thinking for one in said), "".join(one.text for one in said), calls


@pytest.mark.parametrize("name", ANSWERS)
def test_reasoning_words_and_calls_are_told_apart(name: str) -> None:
    begins, answer, thinking, words, calls = ANSWERS[name]
    assert joined(read(begins, [answer])) == (thinking, words, calls)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_split_point_gives_the_same(name: str) -> None:
    begins, answer, thinking, words, calls = ANSWERS[name]
    for cut in range(len(answer) + 1):
        assert joined(read(begins, [answer[:cut], answer[cut:]])) == (thinking, words, calls)
    assert joined(read(begins, list(answer))) == (thinking, words, calls)


@given(
    begins=st.sampled_from(Reasoning),
    answer=st.lists(st.sampled_from(["<think>", "</think>", "<", "think", "/", ">", " ", "\n", "a", CALL])).map(
        "".join
    ),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_any_answer_reads_the_same_in_any_pieces(begins: Reasoning, answer: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    pieces = [answer[start:end] for start, end in itertools.pairwise(places)]
    assert joined(read(begins, pieces)) == joined(read(begins, [answer]))


@given(thinking=st.text("<>/think ab\n"), words=st.text("<>/think ab\n"))
def test_no_part_of_a_tag_leaks_and_nothing_is_lost(thinking: str, words: str) -> None:
    if "</think>" in thinking:
        return
    parser = answer_parser(ANSWER, None)
    assert parser is not None
    said = [*map(parser.push, f"<think>{thinking}</think>{words}"), parser.finish()]
    assert joined(said)[:2] == (thinking.strip(), words.lstrip())


def test_reasoning_streams_before_its_block_ends() -> None:
    assert [one.thinking for one in read(ANSWER, ["<think>one", " two", " <", "b"])] == ["one", " two", "", " <b", ""]


def rendered(source: str, think: bool | None = None, content: str = "hi") -> Reasoning | None:
    turns = [Message("user", content)]
    return reasoning_of(ChatTemplate.compile(source, {}).render(turns, think=think), turns)


def test_the_template_says_whether_and_where_a_model_reasons() -> None:
    assert rendered(QWEN3) is ANSWER
    assert rendered(QWEN3, think=False) is None
    assert rendered(DEEPSEEK) is PROMPT
    assert reasons(QWEN3)
    assert reasons(DEEPSEEK)
    assert not ChatTemplate.compile("{{ messages[0].content }}", {}).reasons


def test_a_tag_that_the_user_wrote_opens_nothing() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{# <think> #}"
    assert rendered(template, content="Say <think>") is ANSWER
    assert rendered(template, content="Say </think>") is ANSWER


def test_earlier_reasoning_is_the_templates_to_write_out() -> None:
    turns = [Message("assistant", "Five.", thinking="2 + 3"), Message("user", "Sure?")]
    assert "<think>\n2 + 3\n</think>\n\nFive." in ChatTemplate.compile(QWEN3, {}).render(turns)
