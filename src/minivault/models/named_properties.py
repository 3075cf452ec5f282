"""What a JSON Schema names of an object: its properties, and what tells it from the alternatives beside it.

Knows nothing of references: see :mod:`minivault.models.narrowing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Named:
    """Named by a schema, or by several that hold together."""

    names: Mapping[str, None] = field(default_factory=dict)
    """Properties, in their order."""
    required: Mapping[str, None] = field(default_factory=dict)
    patterns: Mapping[str, None] = field(default_factory=dict)
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The JSON of all that a property may be, where a const or enum tells it."""
    is_object: bool = False
    """It names, even if nothing: an object without properties is one too."""
    asks_more: bool = False
    """Some part asks for properties that it does not name."""
    kinds: frozenset[str] | None = None
    """Types; ``None``: any."""

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Named:
        """By the schema itself, without its parts."""
        properties, patterns, kinds = schema.get("properties"), schema.get("patternProperties"), schema.get("type")
        required = schema.get("required")
        listed = {one: None for one in required if isinstance(one, str)} if isinstance(required, list) else {}
        held = properties if isinstance(properties, Mapping) else {}
        return cls(
            dict.fromkeys(held),
            listed,
            dict.fromkeys(patterns) if isinstance(patterns, Mapping) else {},
            {name: found for name, one in held.items() if (found := _values(one)) is not None},
            is_object="properties" in schema or "patternProperties" in schema or bool(listed),
            asks_more=schema.get("additionalProperties", False) is not False,
            kinds=frozenset(map(str, kinds if isinstance(kinds, list) else [kinds])) if kinds else None,
        )

    def __or__(self, other: Named) -> Named:
        return Named.together((self, other))

    @classmethod
    def together(cls, all_of: Sequence[Named]) -> Named:
        """What several name that hold together."""
        kinds = [one.kinds for one in all_of if one.kinds is not None]
        names, required, patterns = dict[str, None](), dict[str, None](), dict[str, None]()
        values = dict[str, frozenset[str]]()
        for one in all_of:
            names.update(one.names)
            required.update(one.required)
            patterns.update(one.patterns)
            values.update(one.values)
        return cls(
            names,
            required,
            patterns,
            values,
            any(one.is_object for one in all_of),
            any(one.asks_more for one in all_of),
            frozenset.intersection(*kinds) if kinds else None,
        )

    def __bool__(self) -> bool:
        return self.is_object or self.asks_more

    @property
    def closes(self) -> bool:
        """Whether an object may be closed by this."""
        return self.is_object and not self.asks_more

    @property
    def weight(self) -> int:
        """What it costs to write it once more."""
        return sum(1 + len(name) // 16 for group in (self.names, self.required, self.patterns) for name in group)

    def all_names(self) -> dict[str, None]:
        return {**self.names, **self.required}

    def alternative(self) -> Named:
        """What it names where it need not hold."""
        return Named(self.all_names(), {}, self.patterns, {}, self.is_object, self.asks_more)


NOTHING = Named()


def are_apart(one: Named, other: Named, around: Named) -> bool:
    """Whether nothing that fits one alternative, once it is closed, fits the other, which is not.

    ``around``: what is named beside both of them.
    """
    if one.kinds is not None and other.kinds is not None and one.kinds.isdisjoint(other.kinds):
        return True
    told = one.required.keys() & other.required.keys() & one.values.keys() & other.values.keys()
    if any(one.values[name].isdisjoint(other.values[name]) for name in told):
        return True
    return _lacks(one, other, around) and _lacks(other, one, around)


def _lacks(one: Named, other: Named, around: Named) -> bool:
    """Whether the other alternative needs what this one, closed, has no room for."""
    whole = one | around
    return whole.closes and not whole.patterns and bool(other.required.keys() - whole.all_names().keys())


def _values(schema: Any) -> frozenset[str] | None:
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return frozenset([json.dumps(schema["const"], sort_keys=True)])
    listed = schema.get("enum")
    return frozenset(json.dumps(one, sort_keys=True) for one in listed) if isinstance(listed, list) else None
