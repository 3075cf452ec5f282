"""What response_format asks for, as the source of a grammar."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from minivault.errors import InvalidRequest, Overloaded, UnsupportedFeature
from minivault.models.structure import LazyGrammars, Structure, compiled, structure_of
from minivault.models.threads import Threads

SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "string"}}}


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
        {"type": "json_schema", "schema": SCHEMA},
    ],
)
def test_a_schema_keeps_the_order_of_its_properties(response_format: dict[str, Any]) -> None:
    structure = structure_of(response_format)
    assert structure is not None
    assert structure.kind == "json_schema"
    assert list(json.loads(structure.source)["properties"]) == ["z", "a"]


@pytest.mark.parametrize("value", [{"kind": "later", "source": "x"}, {"source": "x"}, {"kind": "regex"}])
def test_a_record_of_an_unknown_kind_is_a_clear_error(value: dict[str, str]) -> None:
    with pytest.raises(UnsupportedFeature, match="kind"):
        Structure.from_record(value)


def test_integers_without_bounds_get_them_and_nothing_else_changes() -> None:
    whole = {"type": "integer"}
    schema = {
        "properties": {"type": whole, "a": {"type": "integer", "minimum": 1}, "e": {"enum": [whole]}},
        "additionalProperties": True,
        "items": {"anyOf": [whole, {"type": "string"}]},
    }
    bounded = json.loads(Structure.json(schema).source)
    both = {"type": "integer", "minimum": 1 - 2**53, "maximum": 2**53 - 1}
    assert bounded["properties"]["type"] == both
    assert bounded["properties"]["a"] == {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
    assert bounded["properties"]["e"] == {"enum": [whole]}
    assert bounded["items"] == {"anyOf": [both, {"type": "string"}]}


@pytest.mark.parametrize("response_format", [None, {"type": "text"}, {}])
def test_text_has_no_form(response_format: dict[str, Any] | None) -> None:
    assert structure_of(response_format) is None


def test_expressions_and_grammars_are_taken_as_they_are() -> None:
    assert structure_of({"type": "regex", "regex": "a+"}) == Structure("regex", "a+")
    assert structure_of({"type": "grammar", "grammar": "start: A"}) == Structure("lark", "start: A")


def test_a_structure_comes_back_from_its_record() -> None:
    structure = Structure.json(SCHEMA)
    assert Structure.from_record(json.loads(json.dumps(structure.to_record(), sort_keys=True))) == structure
    assert Structure.from_record(None) is None


@pytest.mark.parametrize(
    "response_format",
    [{"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "schema": 5}, {"type": "regex", "regex": ""}],
)
def test_a_form_that_is_none_is_refused_by_its_field(response_format: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="response_format"):
        structure_of(response_format)


@pytest.mark.parametrize("regex", ["\\", "s3cr3t\\\\\\"])
def test_an_expression_that_ends_with_a_backslash_is_refused(regex: str) -> None:
    """Its compiler would leave it out."""
    with pytest.raises(InvalidRequest, match=r"^response_format\.regex: it ends with a backslash$"):
        structure_of({"type": "regex", "regex": regex})
    assert structure_of({"type": "regex", "regex": "a" + 2 * "\\"})


class Slow:
    """A compiler that takes until it is told."""

    version = "slow 1"

    def __init__(self) -> None:
        self.go = threading.Event()

    def prepare(self) -> None:
        return None

    def compile(self, kind: str, source: str = "", /) -> Any:
        self.go.wait(60)


async def test_a_grammar_that_takes_too_long_is_refused() -> None:
    slow = Slow()
    try:
        with pytest.raises(InvalidRequest, match=r"within 0\.01 seconds"):
            await compiled(Structure("regex", "a"), slow, seconds=0.01)
    finally:
        slow.go.set()


async def test_a_grammar_that_finds_no_thread_is_no_fault_of_its_callers() -> None:
    go, threads = threading.Event(), Threads("test", count=1, patience=0.01)
    busy = threads._pool.submit(go.wait, 60)
    try:
        with pytest.raises(Overloaded):
            await compiled(Structure("regex", "a"), Slow(), threads=threads)
    finally:
        go.set()
    assert busy.result()
    threads.close()


async def test_a_grammar_compiles_while_every_thread_of_asyncio_waits() -> None:
    """As they do for scans of the vault, and checksums of models."""
    go = threading.Event()
    waiting = [asyncio.ensure_future(asyncio.to_thread(go.wait, 60)) for _ in range(64)]
    at_once = Slow()
    at_once.go.set()
    try:
        await compiled(Structure("regex", "a"), at_once)
    finally:
        go.set()
    assert all(await asyncio.gather(*waiting))


def test_a_compiler_is_made_once_and_not_before_it_is_needed() -> None:
    made = []

    class Counted:
        version = "counted 1"

        def __init__(self) -> None:
            made.append(self)

        def prepare(self) -> None:
            return None

        def compile(self, kind: str, source: str = "", /) -> Any:
            return source

    grammars = LazyGrammars(Counted)
    assert made == []
    grammars.prepare()
    assert str(grammars.compile("regex", "a")) + str(grammars.compile("regex", "b")) == "ab"
    assert len(made) == 1
