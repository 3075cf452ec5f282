"""A JSON Schema with less room for a model to get lost in: what fits the narrowed one fits the one that it is made of.

Objects get no properties but those that their schema names, in whichever of its parts, unless it asks for others;
integers and fractions of seconds get bounds; what constrains nothing is left out. References lead to definitions of
their own here, since what is closed where it stands alone must stay open as a part of something larger. Knows nothing
of how schemas are compiled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Literal
from urllib.parse import unquote

from minivault.models.named_properties import NOTHING, Named, are_apart
from minivault.models.schema_words import bounded, cleaned

Mode = Literal["closed", "open", "raw"]
"""Of a schema: with closed objects; open itself and closed within, as part of a larger one; as it came, all through."""

_STEPS: Final = 1000
"""Beside one for each character of a schema. One that takes more is compiled as it came."""
_MOST_FOLLOWED: Final = 64
"""References and parts within parts."""
_ANNOTATIONS: Final = frozenset(
    ("$comment", "default", "deprecated", "description", "example", "examples", "readOnly", "title", "writeOnly")
)
_OBJECTS: Final = ("properties", "patternProperties")
_VALUES: Final = ("items", "prefixItems", "additionalItems", "additionalProperties")
_PARTS: Final = ("allOf", "anyOf", "oneOf")
_GROUPS: Final = ("$defs", "definitions")
_TOP: Final = ("$id", "$schema", "x-guidance")
"""Said once, at the top, whatever is written around the rest."""


class NotFollowed(Exception):
    """A schema whose references lead elsewhere or nowhere, or that is too large."""


def narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with closed objects and bounds.

    Raises:
        NotFollowed: it must be taken as it is.
    """
    return _Narrowing(schema).whole("closed")


def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without what constrains nothing, but that its compiler would refuse.

    Raises:
        NotFollowed: it must be taken as it is.
    """
    return _Narrowing(schema).whole("raw")


class _Narrowing:
    """Of one schema. Each of its definitions is written at most once in each mode."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._top = {name: root[name] for name in _TOP if name in root}
        self._root = {name: value for name, value in root.items() if name not in _TOP}
        self._steps = _STEPS + len(json.dumps(root))
        self._places: dict[tuple[str, Mode], str] = {}
        self._waiting: list[tuple[str, Mode]] = []

    def whole(self, mode: Mode) -> dict[str, Any]:
        made, definitions = self._in(mode, self._root), dict[str, Any]()
        if not isinstance(made, Mapping):
            raise NotFollowed
        while self._waiting:
            pointer, wanted = self._waiting.pop()
            definitions[self._places[pointer, wanted]] = self._in(wanted, self._target(pointer))
        return {**self._top, **made} | ({"$defs": definitions} if definitions else {})

    def _in(self, mode: Mode, schema: Any) -> Any:
        return self._closed(schema) if mode == "closed" else self._copied(schema, mode)

    # -- closing -------------------------------------------------------------------------------------------------------

    def _closed(self, schema: Any, around: Named = NOTHING) -> Any:
        """``around``: what larger schemas name that this one is part of, and which are closed here."""
        self._spend(1 + around.weight)
        if not isinstance(schema, Mapping):
            return _closer(around) if schema is True and around.closes else schema
        asserting = schema.keys() - _ANNOTATIONS - {*_GROUPS}
        only = _listed(schema["allOf"]) if asserting == {"allOf"} else ()
        if len(only) == 1 and isinstance(only[0], Mapping):
            return self._closed(only[0], around)
        if asserting == {"$ref"} and not around:
            return {"$ref": self._place(schema["$ref"], "closed")}
        choice = self._choice(schema, around)
        if choice is not None:
            inner = around | self._named({name: value for name, value in schema.items() if name != choice})
            rest = self._copied({name: value for name, value in schema.items() if name != choice}, "open")
            return rest | {choice: [self._closed(one, inner) for one in schema[choice]]}
        return self._closed_together(schema, around)

    def _closed_together(self, schema: Mapping[str, Any], around: Named) -> Any:
        """An object that is described by all its parts at once."""
        named = around | self._named(schema)
        if not named.closes or "additionalProperties" in schema or not _may_be_object(schema):
            return self._copied(schema, "open")
        parts = [one for name in _PARTS for one in _listed(schema.get(name))]
        if not parts and "$ref" not in schema:
            return _filled(self._copied(schema, "open"), _closer(named))
        own = self._named({name: value for name, value in schema.items() if name not in (*_PARTS, "$ref")})
        if not around and not own and self._only_one_names(schema):
            return self._copied(schema, "open", closing=True)
        return {"allOf": [_closer(named), self._copied(schema, "open")]}

    def _only_one_names(self, schema: Mapping[str, Any]) -> bool:
        """Whether all that is named is in one of the parts that apply together."""
        if any(_listed(schema.get(name)) for name in ("anyOf", "oneOf")):
            return False
        together = [*_listed(schema.get("allOf")), *([{"$ref": schema["$ref"]}] if "$ref" in schema else [])]
        return sum(bool(self._named(one)) for one in together) == 1

    def _choice(self, schema: Mapping[str, Any], around: Named) -> str | None:
        """The alternatives that can be closed each for itself: those of a oneOf must stay as far apart as they were."""
        if _listed(schema.get("anyOf")):
            return "anyOf"
        options = _listed(schema.get("oneOf"))
        if not options:
            return None
        inner = around | self._named({name: value for name, value in schema.items() if name != "oneOf"})
        facts = [self._named(one) for one in options]
        self._spend(len(facts) ** 2 // 8)
        return "oneOf" if all(are_apart(one, other, inner) for one, other in combinations(facts, 2)) else None

    # -- copying -------------------------------------------------------------------------------------------------------

    def _copied(self, schema: Any, mode: Mode, *, closing: bool = False) -> Any:
        """The schema in ``mode``, which is not closed. ``closing``: its parts are, each for itself."""
        self._spend(1)
        if not isinstance(schema, Mapping):
            return schema
        if "$id" in schema:
            raise NotFollowed
        found = {
            name: self._copied_part(name, value, mode, closing) for name, value in schema.items() if name not in _GROUPS
        }
        return cleaned(found) if mode == "raw" else bounded(cleaned(found))

    def _copied_part(self, name: str, value: Any, mode: Mode, closing: bool) -> Any:
        within: Mode = "raw" if mode == "raw" else "closed"
        beside: Mode = "closed" if closing else "raw" if name == "oneOf" else mode
        if name == "$ref":
            return self._place(value, beside)
        if name in _OBJECTS and isinstance(value, Mapping):
            return {key: self._in(within, one) for key, one in value.items()}
        if name in _VALUES or name in _PARTS:
            kind = beside if name in _PARTS else within
            return [self._in(kind, one) for one in value] if isinstance(value, list) else self._in(kind, value)
        return value

    # -- what is named -------------------------------------------------------------------------------------------------

    def _named(self, schema: Any, followed: tuple[str, ...] = (), depth: int = 0) -> Named:
        """What a schema and all its parts name. Not what properties hold."""
        self._spend(1)
        if depth > _MOST_FOLLOWED:
            raise NotFollowed
        if not isinstance(schema, Mapping):
            return NOTHING
        found = Named.of(schema)
        for name, value in schema.items():
            if name == "$ref" and value not in followed:
                pointer = _pointer(value)
                found |= self._named(self._target(pointer), (*followed, pointer), depth + 1)
            elif name in _PARTS:
                parts = [self._named(one, followed, depth + 1) for one in _listed(value)]
                found |= _all(parts if name == "allOf" else [one.alternative() for one in parts])
        self._spend(found.weight)
        return found

    # -- references ----------------------------------------------------------------------------------------------------

    def _place(self, reference: object, mode: Mode) -> str:
        pointer = _pointer(reference)
        if (pointer, mode) not in self._places:
            self._target(pointer)
            self._places[pointer, mode] = str(len(self._places))
            self._waiting.append((pointer, mode))
        return f"#/$defs/{self._places[pointer, mode]}"

    def _target(self, pointer: str) -> Any:
        found: Any = self._root
        for step in _steps(pointer):
            try:
                found = found[int(step)] if isinstance(found, list) and step.isdecimal() else found[step]
            except (LookupError, TypeError, ValueError):
                raise NotFollowed from None
        if not isinstance(found, Mapping | bool):
            raise NotFollowed
        return found

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise NotFollowed


def _pointer(reference: object) -> str:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise NotFollowed
    return reference


def _steps(pointer: str) -> Iterator[str]:
    for step in pointer.split("/")[1:]:
        yield unquote(step).replace("~1", "/").replace("~0", "~")


def _closer(named: Named) -> dict[str, Any]:
    """An object with the properties that are named, whatever they hold, and no others."""
    closer: dict[str, Any] = {"properties": {name: {} for name in named.all_names()}}
    if named.patterns:
        closer["patternProperties"] = {pattern: {} for pattern in named.patterns}
    return closer | {"additionalProperties": False}


def _filled(schema: Mapping[str, Any], closer: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, closed in its own words."""
    own = {group: schema.get(group, {}) for group in _OBJECTS if group in closer}
    if not all(isinstance(held, Mapping) for held in own.values()):
        return {**schema}  # for its compiler to refuse
    filled = {group: {name: held.get(name, {}) for name in closer[group]} for group, held in own.items()}
    return {**schema, **filled, "additionalProperties": False}


def _may_be_object(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type", "object")
    return "object" in (kinds if isinstance(kinds, list) else [kinds]) and not schema.keys() & {"enum", "const"}


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _all(parts: Iterable[Named]) -> Named:
    """What several name that hold together, in one pass: one by one, all names would be copied for each."""
    return Named.together(tuple(parts))
