"""Reads recorded answers again as they were read when they came. Knows nothing of how records are kept."""

from __future__ import annotations

from collections.abc import Sequence

from minivault.generation import JsonObject
from minivault.models.reasoning import Reasoning, answer_parser
from minivault.models.tool_calls import Dialect, ToolCallParser, parser_for
from minivault.service import EarlierCall


def parser_of(call: EarlierCall, tools: Sequence[JsonObject], *, several: bool, must: bool) -> ToolCallParser | None:
    """A parser of a recorded answer, as it was read then."""
    dialect = call.tool_dialect
    calls = None if dialect is None else parser_for(Dialect(dialect), tools, call.id, several=several, must=must)
    return answer_parser(None if call.reasoning is None else Reasoning(call.reasoning), calls)
