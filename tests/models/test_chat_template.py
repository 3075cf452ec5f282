"""A conversation becomes the prompt that the checkpoint's makers meant, at a bounded cost, and at any time the same."""

# mypy: disable-error-code="import-not-found"
# why: Transformers lives in an environment of its own, where types are checked without it

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path

import pytest

from minivault.errors import CheckpointCorrupt, InvalidRequest
from minivault.generation import Message
from minivault.models.chat_template import MAX_SOURCE_BYTES, ChatTemplate
from minivault.models.sandbox import Budget

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] in ['system', 'user', 'assistant'] %}
{{ '<|' ~ message.role ~ '|>\\n' ~ message['content'] ~ eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""
BRACKETS = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}\
{% set first = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set first = false %}{% endif %}\
{% for message in rest %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}\
{% if loop.first and first %}{% set content = '[SYS]' + first + '[/SYS]' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}\
{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""
DATED = """\
{%- set today = strftime_now("%d %b %Y") if strftime_now is defined else 'never' %}
{%- set ns = namespace(seen=0) %}
{%- macro header(role) %}{{ '<|start|>' ~ role ~ '<|stop|>' }}{% endmacro %}
{{- header('system') + 'Today: ' + today }}
{%- for message in messages if message.role != 'system' %}
    {%- set ns.seen = ns.seen + 1 %}
    {{- header(message.role) + message.content }}
{%- endfor %}
{{- ns.seen ~ (messages | map(attribute='role') | join(',')) ~ (messages[-1] | tojson) }}"""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = [
    Message("system", "Be brief."),
    Message("user", " What is <b>2 & 2</b>? "),
    Message("assistant", "Four."),
    Message("user", "Grüße 🐕"),
]
GOLDEN = {
    "chatml": (
        CHATML,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is <b>2 & 2</b>?<|im_end|>\n"
        "<|im_start|>assistant\nFour.<|im_end|>\n<|im_start|>user\nGrüße 🐕<|im_end|>\n<|im_start|>assistant\n",
    ),
    "zephyr": (
        ZEPHYR,
        "<|system|>\nBe brief.</s>\n<|user|>\n What is <b>2 & 2</b>? </s>\n<|assistant|>\nFour.</s>\n"
        "<|user|>\nGrüße 🐕</s>\n<|assistant|>\n",
    ),
    "brackets": (
        BRACKETS,
        "<s>[INST] [SYS]Be brief.[/SYS] What is <b>2 & 2</b>? [/INST] Four. </s>[INST] Grüße 🐕 [/INST]",
    ),
    "dated": (
        DATED,
        "<|start|>system<|stop|>Today: 26 Jul 2024<|start|>user<|stop|> What is <b>2 & 2</b>? "
        "<|start|>assistant<|stop|>Four.<|start|>user<|stop|>Grüße 🐕"
        '3system,user,assistant,user{"role": "user", "content": "Grüße 🐕"}',
    ),
}


def rendered(source: str, messages: list[Message] = TURNS, budget: Budget | None = None) -> str:
    template = ChatTemplate.compile(source, TOKENS, lambda: budget or Budget())
    return template.render(messages)


def test_a_text_can_be_replaced_inside_a_loop() -> None:
    source = "{% for m in messages %}{{ m.content.replace('b', 'c').replace('e', '') }}{% endfor %}"
    assert rendered(source, [Message("user", "be"), Message("user", "bee")]) == "cc"


@pytest.mark.parametrize("name", GOLDEN)
def test_templates_in_the_ways_of_well_known_families_render_as_written_down(name: str) -> None:
    source, expected = GOLDEN[name]
    assert rendered(source) == expected


@pytest.mark.torch
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="Transformers is not installed: its renderings cannot be compared",
)
@pytest.mark.filterwarnings("ignore")  # why: theirs to fix, and they differ by version
@pytest.mark.parametrize("name", ["chatml", "zephyr", "brackets"])
def test_transformers_renders_the_same(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source, expected = GOLDEN[name]
    turns = [{"role": message.role, "content": message.content} for message in TURNS]
    theirs, _ = render_jinja_template([turns], chat_template=source, add_generation_prompt=True, **TOKENS)
    assert theirs[0] == expected


def test_the_date_is_the_one_passed_in() -> None:
    template = ChatTemplate.compile("{{ strftime_now('%d %B %Y, %A') }}", {})
    assert template.render([], date=datetime.date(2031, 2, 3)) == "03 February 2031, Monday"
    assert template.render([]) == template.render([]) == "26 July 2024, Friday"


def test_the_prompt_for_an_answer_can_be_left_out() -> None:
    assert not ChatTemplate.compile(CHATML, {}).render(TURNS, add_generation_prompt=False).endswith("assistant\n")


def test_training_marks_are_read_over() -> None:
    assert rendered("{% generation %}a{{ 1 }}{% endgeneration %}b") == "a1b"


def test_loops_can_be_left() -> None:
    assert rendered("{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}") == "1"


def test_a_refusal_is_told_in_the_templates_words() -> None:
    with pytest.raises(InvalidRequest, match="Roles must alternate"):
        rendered(BRACKETS, [Message("assistant", "Hello")])


def test_a_refusal_never_repeats_the_conversation() -> None:
    with pytest.raises(InvalidRequest) as refused:
        rendered("{{ raise_exception('Bad: ' + messages[0].content) }}", [Message("user", "my secret")])
    assert "secret" not in refused.value.message


HUNGRY = {
    "doubling": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "adding": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "block": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set t %}{{ n.s }}{{ n.s }}{% endset %}"
    "{% set n.s = t %}{% endfor %}",
    "nesting": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}",
    "multiplying": "{{ 'x' * 10 ** 12 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "squaring": "{% set n = namespace(s=10) %}{% for i in range(60) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "loops": "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "endless": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "padding": "{{ 'x'.ljust(10 ** 10) }}",
    "replacing": "{{ ('x' * 10 ** 6).replace('x', 'y' * 10 ** 6) }}",
    "joining": "{{ (range(100000) | list) | join('x' * 10 ** 6) }}",
    "format": "{{ '{:1000000000d}'.format(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "range": "{{ range(10 ** 10) | list }}",
    "indent": "{{ messages | tojson(indent=1000000000) }}",
    "date": "{{ strftime_now('%1000000000d') }}",
    "printing": "{{ namespace(a=1) }}",
}


@pytest.mark.parametrize("source", HUNGRY.values(), ids=HUNGRY)
def test_a_hungry_template_is_stopped(source: str) -> None:
    with pytest.raises(InvalidRequest, match="template"):
        rendered(source, budget=Budget(steps=20_000))


def test_time_is_capped_by_the_clock_that_is_passed_in() -> None:
    ticks = iter(range(100))
    with pytest.raises(InvalidRequest, match="more than 5 seconds"):
        rendered("{% for x in range(50) %}{% endfor %}", budget=Budget(seconds=5, clock=lambda: float(next(ticks))))


def test_an_ordinary_conversation_costs_next_to_nothing() -> None:
    budget = Budget()
    rendered(BRACKETS, TURNS, budget)
    assert budget.steps > 999_900


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__name__ }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{% include 'x' %}",
        "{{ lipsum() }}",
        "{{ missing.field }}",
    ],
)
def test_a_template_reaches_nothing_but_its_conversation(source: str) -> None:
    with pytest.raises(InvalidRequest):
        rendered(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{ x | nofilter }}", "{{ ", "{% for %}", "(" * 10 + "{{" + "(" * 5000])
def test_a_template_that_does_not_compile_is_corrupt(source: str) -> None:
    with pytest.raises(CheckpointCorrupt, match="chat template"):
        ChatTemplate.compile(source, {})


def test_a_template_is_found_in_its_own_file_first_then_in_the_tokenizers_config(tmp_path: Path) -> None:
    assert ChatTemplate.load(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one"}))
    loaded = [ChatTemplate.load(tmp_path)]
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "two"}]
    config.write_text(json.dumps({"chat_template": named}))
    loaded.append(ChatTemplate.load(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("three")
    loaded.append(ChatTemplate.load(tmp_path))
    assert [template and template.render([]) for template in loaded] == ["one", "two", "three"]
    assert len({template.digest for template in loaded if template}) == 3


@pytest.mark.parametrize("template", [3, {"a": 1}, [{"name": "default", "template": 4}]])
def test_a_template_that_is_no_text_is_corrupt(tmp_path: Path, template: object) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(CheckpointCorrupt, match="chat_template"):
        ChatTemplate.load(tmp_path)


def test_a_template_that_is_too_large_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("x" * (MAX_SOURCE_BYTES + 1))
    with pytest.raises(CheckpointCorrupt, match="larger"):
        ChatTemplate.load(tmp_path)
