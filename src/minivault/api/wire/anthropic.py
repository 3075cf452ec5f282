"""The Anthropic surface's bodies and events, and how they become :mod:`minivault.generation` values and back.

A limit is honoured or refused, never ignored; any other field that this server does not act on is listed in the record.
Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from minivault.api.problems import ANTHROPIC_PREFIX, Problem
from minivault.api.wire.lenient import LEAST_TOP_P, LenientBody, json_schema_format, listed
from minivault.api.wire.native import MAX_STOPS, StopString
from minivault.errors import UnsupportedFeature
from minivault.generation import Chunk, Completion, FinishReason, GenerationRequest, JsonObject, Message, SamplingParams

KNOWN_BLOCKS = frozenset(
    {"image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"}
)


class Block(LenientBody):
    """A part of a text. Blocks of type text are taken."""

    type: str = Field(max_length=64)
    text: str | None = None

    def words(self, field: str) -> str:
        if self.type != "text":
            kind = f"type {self.type}" if self.type in KNOWN_BLOCKS else "this type"
            raise UnsupportedFeature(f"{field}: blocks of {kind} are not supported; send text", param=field)
        return self.text or ""


Content = str | Annotated[list[Block], Field(max_length=10_000)]


class Turn(LenientBody):
    """A turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content

    def to_message(self) -> Message:
        return Message(self.role, _words(self.content, "messages"))


class JsonFormat(LenientBody):
    type: Literal["json_schema"]
    # Named so because ``schema`` is a method of every model.
    form: dict[str, Any] = Field(alias="schema", description="A JSON Schema.")


class OutputConfig(LenientBody):
    format: JsonFormat | None = None


class CountBody(LenientBody):
    """What `POST /v1/messages/count_tokens` takes."""

    model: str = Field(min_length=1, max_length=200, description="A local model.")
    messages: list[Turn] = Field(min_length=1, max_length=100_000)
    system: Content | None = None
    tools: list[Any] | None = Field(None, description="Refused unless empty.")
    tool_choice: dict[str, Any] | None = Field(None, description="Refused if it asks for a tool.")
    thinking: dict[str, Any] | None = Field(None, description="Refused unless disabled.")
    mcp_servers: list[Any] | None = Field(None, description="Refused unless empty.")

    def conversation(self) -> dict[str, Any]:
        """Fields of a GenerationRequest.

        Raises:
            UnsupportedFeature: a field asks for what this server does not do.
        """
        if self.tools or self.mcp_servers or (self.tool_choice or {}).get("type") in ("any", "tool"):
            name = "tools" if self.tools else "mcp_servers" if self.mcp_servers else "tool_choice"
            raise UnsupportedFeature(f"{name}: this version does not call tools; leave them out", param=name)
        if self.thinking is not None and self.thinking.get("type") != "disabled":
            raise UnsupportedFeature("thinking: this version does not split out reasoning", param="thinking")
        if self.messages[-1].role == "assistant":
            raise UnsupportedFeature("messages: the last must not be the assistant's", param="messages")
        return {
            "model": self.model,
            "messages": tuple(turn.to_message() for turn in self.messages),
            "system": None if self.system is None else _words(self.system, "system") or None,
            "surface": "anthropic",
        }


class MessagesBody(CountBody):
    """What `POST /v1/messages` takes."""

    max_tokens: int = Field(ge=1, le=1_000_000, description="Most tokens to generate, cut to what fits.")
    stream: bool | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    top_p: float | None = Field(None, ge=0, le=1)
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
        return GenerationRequest(
            **self.conversation(),
            sampling=SamplingParams(
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=None if self.top_p is None else max(self.top_p, LEAST_TOP_P),
                stop=self.stops,
            ),
            fit=True,
            stream=bool(self.stream),
            response_format=self._response_format(),
            ignored=listed(self._ignored()),
            request_id=request_id,
            raw_request=raw_request,
        )

    def _response_format(self) -> JsonObject | None:
        asked = (self.output_config.format if self.output_config else None) or self.output_format
        return None if asked is None else json_schema_format(asked.form)

    def _ignored(self) -> Iterable[str]:
        yield from (["metadata"] if self.metadata else [])
        yield from self.unknown()
        yield from self.output_config.unknown("output_config.") if self.output_config else ()
        for turn in self.messages:
            yield from turn.unknown("messages.")
            yield from _unknown_of_blocks(turn.content, "messages.content.")
        yield from _unknown_of_blocks(self.system, "system.")


class UsageBody(BaseModel):
    """Token counts by the model's tokenizer."""

    input_tokens: int
    output_tokens: int


class TextBody(BaseModel):
    type: Literal["text"]
    text: str


class MessageBody(BaseModel):
    """A finished answer, on the record."""

    id: str = Field(description="`msg_` and the id of the call in the vault.")
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextBody]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "model_context_window_exceeded"]
    stop_sequence: str | None = Field(description="Which of `stop_sequences` ended the answer.")
    usage: UsageBody


class CountedBody(BaseModel):
    """How many tokens the model would be given."""

    input_tokens: int


class AnthropicErrorDetail(BaseModel):
    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    """What went wrong. Never repeats what was sent."""

    type: Literal["error"]
    error: AnthropicErrorDetail


class Events:
    """Writes one answer: its events in their order, or the whole message. Made for one answer."""

    media_type = "text/event-stream"

    def __init__(self, body: MessagesBody, call_id: str, prompt_tokens: int) -> None:
        self._body = body
        self._id = f"msg_{call_id}"
        self._prompt_tokens = prompt_tokens

    def first(self) -> list[bytes]:
        message = self._message([], None, None, 0)
        return [
            _event("message_start", {"message": message}),
            _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            _event("ping", {}),
        ]

    def piece(self, chunk: Chunk) -> bytes:
        text = encode_basestring(chunk.text)
        return (
            'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, '
            f'"delta": {{"type": "text_delta", "text": {text}}}}}\n\n'
        ).encode()

    def last(self, completion: Completion) -> list[bytes]:
        reason, sequence = self._end(completion)
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": completion.usage.completion_tokens}
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        return [
            _event("content_block_stop", {"index": 0}),
            _event("message_delta", {"delta": delta, "usage": usage}),
            _event("message_stop", {}),
        ]

    def failure(self, problem: Problem) -> bytes:
        return b"event: error\ndata: " + json.dumps(problem.body(ANTHROPIC_PREFIX)).encode() + b"\n\n"

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer as one object."""
        reason, sequence = self._end(completion)
        content = [{"type": "text", "text": completion.response}] if completion.response else []
        return self._message(content, reason, sequence, completion.usage.completion_tokens)

    def _end(self, completion: Completion) -> tuple[str, str | None]:
        if completion.finish_reason is FinishReason.LENGTH:
            cut = completion.usage.completion_tokens < self._body.max_tokens
            return "model_context_window_exceeded" if cut else "max_tokens", None
        # A template may add stop strings of its own, of which this client knows nothing.
        if completion.stop_sequence in self._body.stops:
            return "stop_sequence", completion.stop_sequence
        return "end_turn", None

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, sequence: str | None, output_tokens: int
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._body.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": {"input_tokens": self._prompt_tokens, "output_tokens": output_tokens},
        }


def _event(kind: str, members: dict[str, Any]) -> bytes:
    data = json.dumps({"type": kind, **members}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _words(content: Content, field: str) -> str:
    return content if isinstance(content, str) else "\n".join(block.words(field) for block in content)


def _unknown_of_blocks(content: Content | None, prefix: str) -> Iterable[str]:
    if isinstance(content, list):
        for block in content:
            yield from block.unknown(prefix)
