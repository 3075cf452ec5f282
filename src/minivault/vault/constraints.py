"""What of a call's parameters its caller wrote, text or structure: it lies with the content, so that it can be erased.

The parameters in the leaf name it under ``constraints``, and the content of that kind holds it as canonical JSON: the
dotted names of parameters, and their values. Leaves that name none, as those of older vaults, hold every parameter
themselves. Knows nothing of which parameters those are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

NAMES: Final = "constraints"
"""Under this the parameters in a leaf name those that lie among the content; and it is that content's kind."""


def parted(parameters: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters as a leaf holds them, and those called ``names``, which go among the content.

    Raises:
        ValueError: a name is not that of a parameter.
    """
    plain, apart = {name: value for name, value in parameters.items() if name != NAMES}, dict[str, Any]()
    for name in sorted({*names}):
        *path, last = name.split(".")
        holder = plain
        for step in path:
            holder[step] = holder = _object(holder.get(step))
        if last not in holder:
            raise ValueError("a constraint is none of the parameters")
        apart[name] = holder.pop(last)
    return (plain | {NAMES: [*apart]} if apart else plain), apart


def named(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that lie among the content, by a leaf that may be anybody's."""
    names = parameters.get(NAMES)
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def held(text: str | None) -> dict[str, Any]:
    """What a content of this kind holds, which may be anybody's: nothing, where it is not there or is none."""
    try:
        found = _object(json.loads(text or "{}"))
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")  # whoever shows it writes it out again
    except (ValueError, RecursionError):
        return {}
    return found


def joined(parameters: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    """The inverse of :func:`parted`: the leaf's parameters with those in ``text``; ``None`` each where it is gone."""
    whole, names = dict(parameters), named(parameters)
    if not names:
        return whole
    found = held(text)
    for name in names:
        *path, last = name.split(".")
        holder = whole
        for step in path:
            holder[step] = holder = _object(holder.get(step))
        holder[last] = found.get(name)
    return dict(sorted(whole.items()))


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
