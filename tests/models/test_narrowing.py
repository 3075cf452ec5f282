"""Schemas with less room to get lost in: what is closed, what stays open, and what is left as it came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.models.named_properties import Named
from minivault.models.narrowing import NotFollowed, narrowed, plain
from minivault.models.structure import Structure

B: dict[str, Any] = {"type": "boolean"}
A: dict[str, Any] = {"type": "object", "properties": {"a": B}, "required": ["a"]}
SHUT = {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"allOf": [A], "description": "d"}, A | SHUT),
        (A | {"patternProperties": {"^x": B}}, A | {"patternProperties": {"^x": B}} | SHUT),
        ({"type": "object", "required": ["z"]}, {"type": "object", "required": ["z"], "properties": {"z": {}}} | SHUT),
        (A | {"required": ["b"]}, {"type": "object", "required": ["b"], "properties": {"a": B, "b": {}}} | SHUT),
        ({"type": "object", "allOf": [A, {"title": "t"}]}, {"type": "object", "allOf": [A | SHUT, {"title": "t"}]}),
        ({"properties": {}}, {"properties": {}} | SHUT),
    ],
)
def test_objects_get_no_properties_but_those_they_name(schema: dict[str, Any], made: dict[str, Any]) -> None:
    assert narrowed(schema) == made


def test_what_several_parts_name_is_closed_by_all_of_it_in_order() -> None:
    both = {"properties": {"b": B}, "allOf": [A, {"required": ["c"]}]}
    assert narrowed(both) == {"allOf": [{"properties": {"b": {}, "a": {}, "c": {}}} | SHUT, both]}
    assert list(narrowed(both)["allOf"][0]["properties"]) == ["b", "a", "c"]


def test_alternatives_are_closed_each_with_what_is_named_beside_them() -> None:
    schema = A | {"anyOf": [{"properties": {"b": B}}, {"properties": {"c": B}}]}
    b, c = ({"properties": {"a": {}, name: B}} | SHUT for name in "bc")
    assert narrowed(schema) == A | {"anyOf": [b, c]}


def test_a_definition_is_closed_where_it_stands_alone_and_open_as_a_part() -> None:
    schema = {"properties": {"x": {"$ref": "#/$defs/A"}, "y": {"$ref": "#/$defs/A"} | A}, "$defs": {"A": A}}
    made = narrowed(schema)
    [alone, whole] = (made["properties"][name] for name in "xy")
    assert made["$defs"][alone["$ref"].rpartition("/")[2]] == A | SHUT
    assert made["$defs"][whole["allOf"][1]["$ref"].rpartition("/")[2]] == A


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        A | {"additionalProperties": True},
        A | {"additionalProperties": B},
        A | {"additionalProperties": True, "anyOf": [{"properties": {"b": B}}]},
        {"allOf": [A, {"additionalProperties": B}]},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"enum": [{"a": 1}], "required": ["a"]},
    ],
)
def test_objects_that_must_stay_open_do(schema: dict[str, Any]) -> None:
    assert narrowed(schema) == schema


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        ({"type": "object", "properties": {"b": B}, "required": ["b"]}, True),
        ({"type": "object", "properties": {"b": B}}, False),
        ({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, False),
        ({"type": "null"}, True),
    ],
)
def test_alternatives_of_a_one_of_are_closed_where_they_stay_as_far_apart(other: dict[str, Any], apart: bool) -> None:
    """An answer that fits one of them, closed, must not fit another as it came."""
    made = narrowed({"oneOf": [A, other]})
    if apart:
        assert made["oneOf"][0] == A | SHUT
    else:
        assert made["allOf"][1] == {"oneOf": [A, other]}


def test_alternatives_that_a_property_tells_apart_are_closed_each_for_itself() -> None:
    one, two = ({"properties": {"k": {"const": k}, "x": B}, "required": ["k"]} for k in "12")
    assert narrowed({"oneOf": [one, two]}) == {"oneOf": [one | SHUT, two | SHUT]}


def test_what_constrains_nothing_is_left_out() -> None:
    schema = {"properties": {"format": {"type": "string", "format": "path"}, "l": {"uniqueItems": False}}}
    assert plain(schema) == {"properties": {"format": {"type": "string"}, "l": {}}}
    kept = {"type": "array", "uniqueItems": True, "items": {"format": "uuid"}, "default": {"format": "path"}}
    assert plain(kept) == narrowed(kept) == kept


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "http://x/y"},
        {"$ref": 5},
        {"properties": {"a": {"$id": "http://x/y", "$ref": "#"}}},
        {"required": [str(n) for n in range(300)], "anyOf": [{}] * 300},
    ],
)
def test_a_schema_that_cannot_be_followed_is_compiled_as_it_came(schema: dict[str, Any]) -> None:
    with pytest.raises(NotFollowed):
        narrowed(schema)
    source = json.loads(Structure.json(schema).source)
    assert {name: value for name, value in source.items() if name != "x-guidance"} == schema


@pytest.mark.parametrize("part", [True, False, None, 1, "x", [["type", "string"]], {"allOf": [True]}])
def test_a_part_that_is_no_object_is_left_to_the_compiler(part: Any) -> None:
    innermost = part["allOf"][0] if isinstance(part, dict) else part
    assert json.loads(Structure.json({"allOf": [part]}).source)["allOf"] == [innermost]
    assert Structure.json({"type": "object", "properties": {"a": {"allOf": [part]}}}).source


def test_what_many_parts_name_is_put_together_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[int] = []
    together = Named.together

    def counted(all_of: Sequence[Named]) -> Named:
        gathered.append(sum(one.weight for one in all_of))
        return together(all_of)

    monkeypatch.setattr(Named, "together", counted)
    narrowed({"allOf": [{"properties": {f"p{number}": {}}} for number in range(300)]})
    assert sum(gathered) < 10 * 300


def test_what_is_said_at_the_top_stays_there() -> None:
    top = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://x/y", "x-guidance": {}}
    assert narrowed(top | {"allOf": [A]}) == top | A | SHUT
    again = {"anyOf": [{"properties": {"n": {"$ref": "#"}}}, {"type": "null"}]}
    made = narrowed(top | again)
    assert {name: made[name] for name in top} == top
    assert not made["$defs"]["0"].keys() & top.keys()


WORDS = ["properties", "patternProperties", "required", "type", "allOf", "anyOf", "oneOf", "$ref", "items", "enum"]
VALUES = st.recursive(
    st.none() | st.integers() | st.booleans() | st.sampled_from(["#", "#/allOf/-1", "#/properties/a", "object", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*WORDS, "a", "$id"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*WORDS, "additionalProperties", "format", "$defs"]), VALUES))
def test_what_is_no_schema_is_left_to_its_compiler(schema: dict[str, Any]) -> None:
    assert Structure.json(schema).source


def test_references_that_each_lead_to_a_larger_part_make_no_schema_of_many_times_the_size() -> None:
    schema: dict[str, Any] = {"enum": [str(n) for n in range(200)]}
    for depth in reversed(range(20)):
        schema = {"properties": {"a": schema, "b": {"$ref": "#" + "/properties/a" * (depth + 1)}}}
    assert len(Structure.json(schema).source) < 1.2 * len(json.dumps(schema))
