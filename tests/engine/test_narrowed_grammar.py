"""What the grammar of a narrowed schema takes: nothing but what fits the schema as it came, and what fits it still."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivault.engine.native.grammar import Grammar
from minivault.errors import InvalidRequest
from minivault.models.structure import Structure, compiled
from minivault.models.tool_calls import Dialect, structure_of_calls
from tests.engine.test_grammar import COMPILER, EOS, TOKENIZER

B: dict[str, Any] = {"type": "boolean"}
A: dict[str, Any] = {"type": "object", "properties": {"a": B}, "required": ["a"]}
BESIDE = {"properties": {"b": B}, "required": ["b"]}


def takes(grammar: Any, text: str) -> bool:
    at = grammar.fork()
    return all(at.accept(token) for token in TOKENIZER.encode(text, False)) and _may_end(at)


def _may_end(at: Grammar) -> bool:
    mask = at.mask()
    return at.is_complete or any(mask[token // 8] >> token % 8 & 1 for token in EOS)


@pytest.mark.parametrize(
    ("schema", "fits", "foreign"),
    [
        ({"allOf": [A]}, {"a": True}, {"a": True, "z": 1}),
        ({"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": A}}, {"a": True}, {"a": True, "z": 1}),
        (A | {"patternProperties": {"^x": B}}, {"a": True, "x1": True}, {"a": True, "z": True}),
        (A | {"anyOf": [{"required": ["a"]}]}, {"a": True}, {"a": True, "z": 1}),
        ({"type": "object", "required": ["z"]}, {"z": True}, {"z": True, "y": 1}),
        (A | {"required": ["a", "b"]}, {"a": True, "b": 1}, {"a": True, "b": 1, "z": 1}),
        (A | {"anyOf": [{"$ref": "#/$defs/B"}], "$defs": {"B": BESIDE}}, {"a": True, "b": True}, {"a": True}),
        ({"allOf": [A, BESIDE]}, {"a": True, "b": True}, {"a": True, "b": True, "z": 1}),
        (A | {"oneOf": [BESIDE, {"type": "null"}]}, {"a": True, "b": True}, {"a": True, "b": True, "z": 1}),
        (A | {"required": ["a"], "minProperties": 2}, {"a": True, "z": 1}, {"a": True}),
        ({"type": ["integer", "null"]}, 2**53 - 1, 2**53),
    ],
)
async def test_answers_have_what_is_named_and_no_more(schema: dict[str, Any], fits: Any, foreign: Any) -> None:
    _, grammar = await compiled(Structure.json(schema), COMPILER)
    jsonschema.validate(fits, schema)
    assert takes(grammar, json.dumps(fits))
    assert not takes(grammar, json.dumps(foreign))


async def test_a_schema_that_only_narrowing_leaves_without_a_value_is_compiled_and_recorded_as_it_came() -> None:
    asked = Structure.json(A | {"minProperties": 2})
    held, _ = await compiled(asked, COMPILER)
    assert "additionalProperties" in asked.source
    assert "additionalProperties" not in held.source
    again, _ = await compiled(Structure("json_schema", held.source), COMPILER)  # as from its record
    assert again == held


@pytest.mark.parametrize("dialect", Dialect)
async def test_so_is_that_of_a_tool(dialect: Dialect) -> None:
    tool = {"function": {"name": "f", "parameters": A | {"minProperties": 2}}}
    asked = structure_of_calls((tool,), dialect, several=True)
    held, _ = await compiled(asked, COMPILER)
    assert held != asked


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"properties": {"l": {"uniqueItems": True}}}, "it uses a keyword that is not supported: uniqueItems"),
        ({"propertyNames": {}}, "it uses a keyword that is not supported: propertyNames"),
        ({"oneOf": [A, A]}, "a oneOf has alternatives that may overlap, where anyOf would do"),
        (
            {"properties": {"a": {}}, "minProperties": 2},
            "minProperties and maxProperties above 1 need all properties to be required",
        ),
    ],
)
async def test_a_tool_that_cannot_be_held_to_is_named_with_its_fault(parameters: dict[str, Any], said: str) -> None:
    tools = [{"function": {"name": name, "parameters": one}} for name, one in (("f", A), ("g", parameters))]
    for dialect in Dialect:
        with pytest.raises(InvalidRequest, match=f"the parameters of tool 2 of 2: {said}$"):
            await compiled(structure_of_calls(tools, dialect, several=True), COMPILER)
        with pytest.raises(InvalidRequest, match=f"the parameters of the tool: {said}$"):
            await compiled(structure_of_calls(tools[1:], dialect, several=True), COMPILER)
    with pytest.raises(InvalidRequest, match=f"^the JSON Schema of the answer: {said}$"):
        await compiled(Structure.json(parameters), COMPILER)


@pytest.mark.parametrize("form", ["path", "password", "binary", "byte", "int64", "decimal", "regex", "iri", "x"])
async def test_a_format_that_nobody_enforces_constrains_nothing(form: str) -> None:
    _, grammar = await compiled(Structure.json({"type": "string", "format": form}), COMPILER)
    assert takes(grammar, '"anything"')


TIMES = ["22:08:20Z", "00:00:60.123456789+23:59", "23:59:59.5-00:30"]
DURATIONS = ["P1Y2M3DT4H5M6S", "PT36H", "P4W", "P2M1D", "PT5M7S", "P999999999D"]


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("time", TIMES, ["22:08:20", "24:00:00Z", "22:08:20.Z", "22:08:20.1234567890Z"]),
        ("date-time", [f"2020-02-29T{time}" for time in TIMES], ["2020-02-30T22:08:20Z", "2020-02-29T22:08:20"]),
        ("duration", DURATIONS, ["P", "PT", "P1H", "P1YT", "P1Y2D", "P1234567890D"]),
    ],
)
async def test_times_have_fractions_of_at_most_nine_digits(form: str, good: list[str], bad: list[str]) -> None:
    schema = {"type": "string", "format": form}
    _, grammar = await compiled(Structure.json(schema), COMPILER)
    _, unbounded = await compiled(Structure("json_schema", json.dumps(schema)), COMPILER)
    assert all(takes(grammar, json.dumps(text)) and takes(unbounded, json.dumps(text)) for text in good)
    assert not any(takes(grammar, json.dumps(text)) for text in bad)


# -- any schema --------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["a", "b", "c", "x1"]), min_size=1, max_size=2, unique=True)
LEAVES = st.sampled_from([B, {"enum": [1, 2]}, {"const": "k"}, {"const": "j"}, {"type": "null"}])
REFERENCES = st.just({"$ref": "#/$defs/R"})


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(inner, min_size=1, max_size=2)
    keywords = {
        "type": st.just("object"),
        "properties": st.dictionaries(st.sampled_from(["a", "b", "c", "x1"]), inner, max_size=2),
        "required": NAMES,
        "patternProperties": st.fixed_dictionaries({"^x": inner}),
        "additionalProperties": st.one_of(st.booleans(), LEAVES),
        "anyOf": parts,
        "oneOf": parts,
        "allOf": parts,
    }
    return st.fixed_dictionaries({}, optional=keywords)


SCHEMAS = st.recursive(LEAVES | REFERENCES, objects, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"$defs": st.fixed_dictionaries({"R": objects(LEAVES)})}), objects(SCHEMAS), st.integers())
def test_whatever_a_narrowed_grammar_lets_through_fits_the_schema_as_it_came(
    definitions: dict[str, Any], schema: dict[str, Any], seed: int
) -> None:
    schema = schema | definitions
    try:
        grammar = COMPILER.compile("json_schema", Structure.json(schema).source)
    except InvalidRequest:
        return
    text = drawn(grammar, random.Random(seed))  # noqa: S311 - a test's own choices
    if text is not None:
        jsonschema.validate(json.loads(text), schema)


def drawn(at: Grammar, choices: random.Random) -> str | None:
    """Some text that the grammar takes; ``None`` where it came to no end."""
    tokens: list[int] = []
    while len(tokens) < 60:
        mask = at.mask()
        allowed = [token for token in range(len(mask) * 8) if mask[token // 8] >> token % 8 & 1]
        if at.is_complete or {*allowed} & {*EOS}:
            return TOKENIZER.decode(tokens)
        ends = [token for token in allowed if TOKENIZER.decode([token]).strip()[:1] in ("}", "]", '"')]
        token = choices.choice(ends if ends and choices.random() < 0.5 else allowed)
        assert at.accept(token)
        tokens.append(token)
    return None
