"""A form that cannot be held to: the error names field, fault and place, and repeats nothing of it."""

from __future__ import annotations

import pytest

from minivault.engine.native.grammar import GrammarCompiler, GrammarKind
from minivault.errors import InvalidRequest
from minivault.models.tokenizer import Tokenizer
from tests.engine.checkpoints import opened
from tests.oracle.golden import DATA

NAME = "llama-gqa"
EOS = Tokenizer.load(DATA / NAME).eos_token_ids
COMPILER = GrammarCompiler((DATA / NAME / "tokenizer.json").read_text(), opened(NAME)[0].vocab_size, EOS)
MARK = "s3cr3t"
CIRCLE = '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'

FEW = '{"type": "object", "properties": {"s3cr3t": {}}, "minProperties": 2}'
LOOP = '{"$defs": {"a": {"properties": {"s3cr3t": {"$ref": "#/$defs/a", "required": ["b"]}}}}, "$ref": "#/$defs/a"}'


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("regex", "(s3cr3t", "response_format.regex: a group is not closed, at character 1"),
        ("regex", "s3cr3t[z-a]", "the range of a character class ends before it begins, at character 8"),
        ("regex", "[a&&b]", "response_format.regex: no text can fit it"),
        ("regex", "(?=s3cr3t)", "look-ahead and look-behind are not supported, at character 1"),
        ("regex", "a{3,1}", "a repetition's most is less than its least, at character 2"),
        ("lark", "start: s3cr3t", "response_format.grammar: a rule or token is used that is not defined, at line 1,"),
        ("lark", 'start: "a"\nstart: "s3cr3t"', "a rule is defined twice, at line 2, column 8"),
        ("lark", 's3cr3t: "a"', "there is no rule named start"),
        ("lark", 'start: "a unclosed group" s3cr3t', "a rule or token is used that is not defined"),
        ("lark", "start: A\nA: /(s3cr3t/", "a group is not closed, at line 2"),
        ("lark", "start: start", "response_format.grammar: no text can fit it"),
        ("lark", 'start: s3cr3t\ns3cr3t: start "limit"', "response_format.grammar: no text can fit it"),
        ("json_schema", '{"$ref": "#"}', "the JSON Schema of the answer: no text can fit it"),
        ("json_schema", CIRCLE, "the JSON Schema of the answer: no text can fit it"),
        ("json_schema", '{"type": "s3cr3t"}', "the JSON Schema of the answer: a type is none of string, number,"),
        ("json_schema", '{"type": "array", "uniqueItems": true}', "a keyword that is not supported: uniqueItems"),
        ("json_schema", '{"type": "string", "pattern": "(look-around s3cr3t"}', "a group is not closed"),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 1}', "no value can fit it"),
        (
            "json_schema",
            '{"oneOf": [{}, {"title": "s3cr3t"}]}',
            "a oneOf has alternatives that may overlap, where anyOf",
        ),
        ("json_schema", FEW, "minProperties and maxProperties above 1 need all properties to be required"),
        ("json_schema", LOOP, "a $ref to what it stands in has other keywords beside it"),
        ("json_schema", '{"$ref": "#/s3cr3t"}', "a $ref leads nowhere"),
        ("json_schema", '{"$ref": "http://x/s3cr3t"}', "a $ref must stay within the schema, such as #/$defs/name"),
        ("json_schema", '{"items": {"$ref": "s3cr3t/limit.json"}}', "a $ref must stay within the schema"),
        ("json_schema", '{"$ref": "http://[s3cr3t"}', "a $ref must stay within the schema"),
    ],
)
def test_a_fault_is_named_with_its_place(kind: GrammarKind, source: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        COMPILER.compile(kind, source)
    assert said in refused.value.message
    assert MARK not in refused.value.message
    assert refused.value.param == "response_format"


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "a\\\\"),
        ("regex", "\\\\\\\\"),
        ("lark", 'start: ""'),
        ("lark", 'start: start | "a"'),
        ("json_schema", '{"properties": {"next": {"$ref": "#"}}}'),
    ],
)
def test_what_can_begin_is_taken(kind: GrammarKind, source: str) -> None:
    assert any(COMPILER.compile(kind, source).mask())
