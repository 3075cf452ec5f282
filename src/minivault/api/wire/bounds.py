"""What a field may be, in words: read from the same JSON Schema that `/openapi.json` shows, so that an error cannot
name another bound than the one that holds.

Pure functions over schemas. Knows nothing of what was sent, and so repeats none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo

Schema = Mapping[str, Any]


class Place(NamedTuple):
    """A field of a body, or an item of one."""

    name: str
    """As a client would write it: ``messages.0.content``. Empty for the whole."""
    may_be: str
    """Such as ``an integer from 1 to 20``."""
    branches: tuple[Schema, ...]
    """What it may be, one for each of several types."""

    def of_length(self, fault: str) -> str | None:
        """What a fault of length alone is told of: of several types the one that was sent. ``None`` for any other
        fault, and where there is one type, whose words say it."""
        if len(self.branches) < 2 or fault not in _LENGTHS:
            return None
        kind, bound, word = _LENGTHS[fault]
        bounds = [one[bound] for one in self.branches if one.get("type") == kind and bound in one]
        if not bounds:
            return None
        least = bound.startswith("min")
        return f"at {'least' if least else 'most'} {_so_many(min(bounds) if least else max(bounds), word)}"


_LENGTHS: Mapping[str, tuple[str, str, str]] = {
    "too_short": ("array", "minItems", "item"),
    "too_long": ("array", "maxItems", "item"),
    "string_too_short": ("string", "minLength", "character"),
    "string_too_long": ("string", "maxLength", "character"),
}
"""By the kind of a fault: the type that has it, its bound, and what is counted."""


def schema_of(model: type[BaseModel]) -> Schema:
    schema: Schema = model.model_json_schema()
    return schema


def schema_of_parameters(fields: Mapping[str, FieldInfo]) -> Schema:
    """Of the parameters of a query or a path."""
    parameters: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    return schema_of(create_model("Parameters", **parameters))


def place_of(schema: Schema, location: Sequence[str | int]) -> Place:
    """The place that a fault's ``location`` leads to. Parts of it that name branches of a union are passed over, and
    so is what lies under keys that the client thought of."""
    names: list[str] = []
    here = schema
    for part in location:
        if (inner := _inner(schema, here, part)) is not None:
            here = inner
            names.append(str(part))
    return Place(".".join(names), _words(schema, here), tuple(_branches(schema, here)))


def _inner(root: Schema, here: Schema, part: str | int) -> Schema | None:
    for branch in _branches(root, here):
        inner = branch.get("items") if isinstance(part, int) else branch.get("properties", {}).get(part)
        if isinstance(inner, Mapping):
            return inner
    return None


def _branches(root: Schema, schema: Schema) -> Iterator[Schema]:
    """What a value may be, each without references and unions; null is left out: it means the default everywhere."""
    if "$ref" in schema:
        yield from _branches(root, root["$defs"][schema["$ref"].rpartition("/")[2]])
    elif choices := schema.get("anyOf") or schema.get("oneOf") if "type" not in schema else None:
        for choice in choices:
            yield from _branches(root, choice)
    elif schema.get("type") != "null":
        yield schema


def _words(root: Schema, schema: Schema) -> str:
    return _either([_of_one(root, branch) for branch in _branches(root, schema)] or ["null"])


def _of_one(root: Schema, one: Schema) -> str:
    if "const" in one or "enum" in one:
        return _either([f'"{value}"' for value in one.get("enum", [one.get("const")])])
    kind = one.get("type")
    if kind in ("integer", "number"):
        return f"{'an' if kind == 'integer' else 'a'} {kind}{_range(one)}"
    if kind == "string":
        return _text(one)
    if kind == "array":
        each = one.get("items")
        return f"a list{_count(one, 'Items', 'item')}" + (f", each {_words(root, each)}" if each else "")
    if kind == "object":
        return "an object" + _entries(root, one)
    return "true or false" if kind == "boolean" else "any value"


def _text(one: Schema) -> str:
    if one.get("format") == "date-time":
        return "a time such as 2030-01-31T12:00:00Z"
    matches = f" that matches {one['pattern']}" if "pattern" in one else ""
    return f"a string{_count(one, 'Length', 'character')}{matches}"


def _range(one: Schema) -> str:
    if "minimum" in one and "maximum" in one:
        return f" from {_number(one['minimum'])} to {_number(one['maximum'])}"
    named = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{words} {_number(one[name])}" for name, words in named.items() if name in one]
    return f" {' and '.join(said)}" if said else ""


def _number(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _count(one: Schema, of: str, word: str) -> str:
    least, most = one.get(f"min{of}", 0), one.get(f"max{of}")
    if most is None:
        return f" of at least {_so_many(least, word)}" if least else ""
    return f" of {least} to {_so_many(most, word)}" if least else f" of at most {_so_many(most, word)}"


def _so_many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _entries(root: Schema, one: Schema) -> str:
    patterns: Schema = one.get("patternProperties", {})
    values = next(iter(patterns.values()), one.get("additionalProperties"))
    said = _count(one, "Properties", "entry").replace("entrys", "entries")
    if not isinstance(values, Mapping) or not values:
        return said
    keys = f", under keys that match {next(iter(patterns))}" if patterns else ""
    return f"{said or ' of entries'}, each {_words(root, values)}{keys}"


def _either(options: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``; each once. A long option has its own commas, so its ``or`` gets one too."""
    once = list(dict.fromkeys(options))
    if len(once) == 1:
        return once[0]
    before = ", or " if any("," in option for option in once) else " or "
    return ", ".join(once[:-1]) + before + once[-1]
