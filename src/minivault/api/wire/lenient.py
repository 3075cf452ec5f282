"""What the surfaces of other servers share: fields that are unknown are let in, and listed in the record.

Knows nothing of any one surface.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from minivault.errors import UnsupportedFeature
from minivault.generation import RESPONSE_FORMAT, FormNames, JsonObject
from minivault.models.tool_calls import Said, ToolCallParser

MAX_IGNORED = 64
MAX_IGNORED_LENGTH = 64
LEAST_TOP_P = 1e-9
"""Stands for 0, which other servers take: the likeliest token alone is kept."""
LIMITS = frozenset({
    "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_tokens_to_sample", "max_length",
    "max_prompt_tokens", "max_tool_calls", "max_time", "n_predict", "num_predict", "num_ctx", "reasoning_budget",
    "thinking_budget", "thinking_token_budget", "timeout", "truncate_prompt_tokens",
})  # fmt: skip
"""What some server calls a limit. Where one of these is not a field, it is refused: whoever sends it relies on it."""


class LenientBody(BaseModel):
    """A body, or a part of one, whose unknown fields do no harm. Types are strict all the same."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def unknown(self, prefix: str = "") -> list[str]:
        """The names of the fields that were sent and are not known; null asks for nothing."""
        return [prefix + name for name, value in (self.model_extra or {}).items() if value is not None]

    def unknown_within(self, prefix: str = "") -> Iterator[str]:
        """:meth:`unknown`, of this and of all its parts; the items of a list share its name."""
        yield from self.unknown(prefix)
        for name, value in self.__dict__.items():
            for part in value if isinstance(value, list) else (value,):
                if isinstance(part, LenientBody):
                    yield from part.unknown_within(f"{prefix}{name}.")

    def refuse_limits(self, prefix: str = "") -> None:
        """
        Raises:
            UnsupportedFeature: a limit was sent that is none here.
        """
        for name in self.unknown():
            if name in LIMITS:
                raise UnsupportedFeature(
                    f"{prefix}{name}: this limit is not kept on this surface; leave it out", param=prefix + name
                )


def listed(names: Iterable[str]) -> tuple[str, ...]:
    """Names of ignored fields as the record takes them: each once, printable, and bounded in length and number."""
    clean = ("".join(filter(str.isprintable, name))[:MAX_IGNORED_LENGTH] for name in names)
    return tuple(dict.fromkeys(clean))[:MAX_IGNORED]


def function_tool(name: str, description: str | None, parameters: Mapping[str, Any] | None) -> JsonObject:
    """A tool as the service takes it."""
    function: dict[str, Any] = {"name": name}
    if description is not None:
        function["description"] = description
    return {"type": "function", "function": function | {"parameters": parameters or {"type": "object"}}}


def as_object(arguments: str) -> dict[str, Any]:
    """The arguments of a call, for surfaces that take nothing but an object: what is none stands under ``value``."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = arguments
    return value if isinstance(value, dict) else {"value": value}


def whole_said(text: str, parser: ToolCallParser | None) -> Said:
    """The reasoning, words and calls of a whole answer."""
    if parser is None:
        return Said(text)
    begun, rest = parser.push(text), parser.finish()
    return Said(begun.text + rest.text, (*begun.calls, *rest.calls), begun.thinking + rest.thinking)


def form_names(form: Mapping[str, Any] | None) -> FormNames:
    """What the client called the schema of its ``response_format``, which may hold it in either of two places."""
    direct = form is not None and "schema" in form and "json_schema" not in form
    return FormNames(schema="response_format.schema") if direct else RESPONSE_FORMAT


def json_schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The service's ``response_format`` for answers that fit ``schema``."""
    return {"type": "json_schema", "json_schema": {"schema": schema}}
