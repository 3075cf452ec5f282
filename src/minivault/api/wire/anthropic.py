"""The Anthropic surface's requests, and how they become :mod:`minivault.generation` values.

A limit is honoured or refused, never ignored; any other field that this server does not act on is listed in the record.
Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from minivault.api.wire.lenient import LEAST_TOP_P, LenientBody, function_tool, json_schema_format, listed
from minivault.api.wire.native import MAX_STOPS, StopString
from minivault.api.wire.openai import SEEDS, FunctionName
from minivault.api.wire.strict import Items
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import FormNames, GenerationRequest, JsonObject, Message, SamplingParams, ToolCall
from minivault.models.begun import is_begun
from minivault.models.naming import untagged

KNOWN_BLOCKS = frozenset(
    {"image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"}
)
"""Types that may be named in an error."""


_THOUGHTS = ("thinking", "redacted_thinking")


class Block(LenientBody):
    """A part of a turn: of type text, and in their places tool_use and tool_result."""

    type: str = Field(max_length=64)
    text: str | None = None
    id: str | None = Field(None, max_length=200, description="Of a tool_use.")
    name: str | None = Field(None, max_length=200, description="Of a tool_use: the tool.")
    input: dict[str, Any] | None = Field(None, description="Of a tool_use.")
    tool_use_id: str | None = Field(None, max_length=200, description="Of a tool_result: the call it answers.")
    content: str | Items[Block] | None = Field(None, description="Of a tool_result.")
    is_error: bool | None = Field(None, description="Of a tool_result.")
    thinking: str | None = Field(None, description="Of a thinking block, which an assistant's turn may have.")
    signature: str | None = Field(None, description="Of a thinking block; has no effect.")
    data: str | None = Field(None, description="Of a redacted_thinking block; has no effect.")

    def words(self, field: str) -> str:
        if self.type != "text":
            kind = f"type {self.type}" if self.type in KNOWN_BLOCKS else "this type"
            raise UnsupportedFeature(f"{field}: blocks of {kind} are not supported here; send text", param=field)
        if self.text is None:
            raise InvalidRequest(f"{field}: a block of type text must have a text", param=field)
        return self.text

    def to_call(self) -> ToolCall:
        if not self.id or not self.name:
            raise InvalidRequest("messages: a tool_use must have an id and a name", param="messages")
        return ToolCall(self.id, self.name, json.dumps(self.input or {}, ensure_ascii=False))

    def to_result(self, names: Mapping[str, str]) -> Message:
        if not self.tool_use_id or self.tool_use_id not in names:
            raise InvalidRequest("messages: a tool_result must name an earlier tool_use", param="messages")
        words = _words(self.content or "", "messages")
        said = f"Error: {words}" if self.is_error else words
        return Message("tool", said, names[self.tool_use_id], tool_call_id=self.tool_use_id)


Content = str | Annotated[Items[Block], Field(max_length=10_000)]


class Turn(LenientBody):
    """A turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content

    def to_messages(self, names: dict[str, str]) -> Iterator[Message]:
        """The turn as templates take it: results of tools are turns of their own, before the words beside them.

        ``names``: the tools of earlier calls by the calls' ids; those of this turn are added.
        """
        if isinstance(self.content, str):
            yield Message(self.role, self.content)
            return
        apart = {"assistant": "tool_use", "user": "tool_result"}.get(self.role)
        special = [block for block in self.content if block.type == apart]
        thoughts = _THOUGHTS if self.role == "assistant" else ()
        words = [block.words("messages") for block in self.content if block.type not in (apart, *thoughts)]
        thinking = "\n".join(block.thinking or "" for block in self.content if block.type in thoughts)
        calls = tuple(block.to_call() for block in special) if apart == "tool_use" else ()
        names |= {call.id: call.name for call in calls}
        if apart == "tool_result":
            yield from (block.to_result(names) for block in special)
        if words or calls or not special:
            yield Message(self.role, "\n".join(words), tool_calls=calls, thinking=thinking)


class ClientTool(LenientBody):
    """A tool that the client runs."""

    type: str | None = Field(None, max_length=64, description="Only custom, or nothing.")
    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any] | None = None

    def offered(self) -> JsonObject:
        if self.type not in (None, "custom"):
            raise UnsupportedFeature(
                "tools: this server has no tools of its own, it only asks for yours", param="tools"
            )
        return function_tool(self.name, self.description, self.input_schema)


class ToolChoice(LenientBody):
    """Whether a tool must be called."""

    type: Literal["auto", "any", "none", "tool"]
    name: FunctionName | None = Field(None, description="Of the type tool: which.")
    disable_parallel_tool_use: bool | None = None

    def word(self) -> str:
        if self.type == "tool":
            return f"named:{self.name or ''}"
        return "required" if self.type == "any" else self.type


class JsonFormat(LenientBody):
    type: Literal["json_schema"]
    # Named so because ``schema`` is a method of every model.
    form: dict[str, Any] = Field(alias="schema", description="A JSON Schema.")


class OutputConfig(LenientBody):
    format: JsonFormat | None = None


class Thinking(LenientBody):
    """Whether a model that reasons shall. How long is bounded by `max_tokens` alone."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="No effect: `max_tokens` bounds reasoning and answer together."
    )


class CountBody(LenientBody):
    """What `POST /v1/messages/count_tokens` takes."""

    model: Annotated[str, Field(min_length=1, max_length=200, description="A local model."), AfterValidator(untagged)]
    messages: Items[Turn] = Field(min_length=1, max_length=100_000)
    system: Content | None = None
    tools: Annotated[Items[ClientTool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = Field(None, description="Reasoning is asked for and shown only if this says so.")
    mcp_servers: Items[Any] | None = Field(None, description="Refused unless empty.")

    @property
    def thinks(self) -> bool:
        """Whether reasoning was asked for."""
        return self.thinking is not None and self.thinking.type != "disabled"

    def conversation(self) -> dict[str, Any]:
        """Fields of a GenerationRequest.

        Raises:
            UnsupportedFeature: a field asks for what this server does not do.
        """
        if self.mcp_servers:
            raise UnsupportedFeature("mcp_servers: this server calls no other; leave them out", param="mcp_servers")
        names: dict[str, str] = {}
        messages = tuple(message for turn in self.messages for message in turn.to_messages(names))
        choice = self.tool_choice
        return {
            "model": self.model,
            "messages": messages,
            "begun": is_begun(messages),
            "tools": tuple(tool.offered() for tool in self.tools or ()),
            "tool_choice": "auto" if choice is None else choice.word(),
            "parallel_tool_calls": choice is None or not choice.disable_parallel_tool_use,
            "think": self.thinks,
            "system": None if self.system is None else _words(self.system, "system") or None,
            "surface": "anthropic",
        }


class MessagesBody(CountBody):
    """What `POST /v1/messages` takes."""

    max_tokens: int = Field(ge=1, le=1_000_000, description="Most tokens to generate, cut to what fits.")
    stream: bool | None = None
    stop_sequences: Annotated[Items[StopString], Field(max_length=MAX_STOPS)] | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(
        None, ge=-SEEDS, le=SEEDS - 1, description="Not a word of Anthropic's: same request, same bytes."
    )
    metadata: dict[str, Any] | None = Field(None, description="Has no effect.")
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = Field(None, description="The older word for `output_config.format`.")

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(stop for stop in self.stop_sequences or () if stop)

    def to_generation(self, *, request_id: str, raw_request: bytes) -> GenerationRequest:
        """
        Raises:
            UnsupportedFeature: a field asks for what this server does not do.
        """
        self.refuse_limits()
        field, asked = self._format()
        return GenerationRequest(
            **self.conversation(),
            sampling=SamplingParams(
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=None if self.top_p is None else max(self.top_p, LEAST_TOP_P),
                stop=self.stops,
                seed=None if self.seed is None else self.seed % SEEDS,
            ),
            fit=True,
            stream=bool(self.stream),
            response_format=None if asked is None else json_schema_format(asked.form),
            form_names=FormNames(field, f"{field}.schema"),
            ignored=listed(self._ignored()),
            request_id=request_id,
            raw_request=raw_request,
        )

    def _format(self) -> tuple[str, JsonFormat | None]:
        """The form of the answer, and the field that it was sent in."""
        if self.output_config is not None and self.output_config.format is not None:
            return "output_config.format", self.output_config.format
        return "output_format", self.output_format

    def _ignored(self) -> Iterable[str]:
        yield from (["metadata"] if self.metadata else [])
        if self.thinking is not None:
            # Every client that asks for reasoning must name one, below max_tokens: refusing it would refuse them all.
            yield from (["thinking.budget_tokens"] if self.thinking.budget_tokens is not None else [])
        yield from self.unknown_within()


def _words(content: Content, field: str) -> str:
    return content if isinstance(content, str) else "\n".join(block.words(field) for block in content)
