"""The Anthropic surface's answers: the events of a stream, and whole messages.

Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from minivault.api.problems import ANTHROPIC_PREFIX, Problem
from minivault.api.wire.anthropic import MessagesBody
from minivault.api.wire.lenient import as_object, whole_said
from minivault.api.wire.native import CACHE_UNTOLD
from minivault.errors import InvalidRequest
from minivault.generation import Chunk, Completion, FinishReason, ToolCall
from minivault.models.tool_calls import Said, ToolCallParser
from minivault.one_line import in_one_line, quoted


class MessageUsageBody(BaseModel):
    """Token counts by the model's tokenizer."""

    input_tokens: int = Field(description="All of the prompt's: none is counted as cached.")
    cache_creation_input_tokens: Literal[0] = Field(description=CACHE_UNTOLD)
    cache_read_input_tokens: Literal[0] = Field(description=CACHE_UNTOLD)
    output_tokens: int


class TextBody(BaseModel):
    type: Literal["text"]
    text: str


class ToolUseBody(BaseModel):
    """A tool that the model wants called."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingBody(BaseModel):
    """What the model wrote before its answer. Nothing is signed: send it back as it is."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class MessageBody(BaseModel):
    """A finished answer, on the record."""

    id: str = Field(description="`msg_` and the id of the call in the vault.")
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBody | TextBody | ToolUseBody]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
    stop_sequence: str | None = Field(description="Which of `stop_sequences` ended the answer.")
    usage: MessageUsageBody


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
    """Writes one answer: its events in their order, or the whole message. Made for one answer.

    Words and calls are blocks. Without tools there is one block, begun at once; with tools, each begins when it comes.
    """

    media_type = "text/event-stream"

    def __init__(
        self, body: MessagesBody, call_id: str, prompt_tokens: int, parser: ToolCallParser | None = None
    ) -> None:
        self._body = body
        self._id = f"msg_{call_id}"
        self._prompt_tokens = prompt_tokens
        self._parser = parser
        self._index = 0
        self._open: Literal["text", "thinking"] | None = None
        """The type of the block that is open."""
        self._called = False

    def first(self) -> list[bytes]:
        begun = _event("message_start", {"message": self._message([], None, None, 0)})
        return [begun, *([] if self._parser else self._begin("text")), _event("ping", {})]

    def pieces(self, chunk: Chunk) -> list[bytes]:
        if self._parser is not None:
            return self._said(self._parser.push(chunk.text))
        return [self._delta(chunk.text)]

    def last(self, completion: Completion) -> list[bytes]:
        rest = [] if self._parser is None else self._said(self._parser.finish())
        reason, sequence = self._end(completion)
        usage = _usage(completion.usage.prompt_tokens, completion.usage.completion_tokens)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        return [
            *rest,
            *self._end_block(),
            _event("message_delta", {"delta": delta, "usage": usage}),
            _event("message_stop", {}),
        ]

    def _said(self, said: Said) -> list[bytes]:
        events = []
        if said.thinking and self._body.thinks:
            delta = {"type": "thinking_delta", "thinking": said.thinking}
            events += [*self._begin("thinking"), _event("content_block_delta", {"index": self._index, "delta": delta})]
        if said.text:
            events += [*self._begin("text"), self._delta(said.text)]
        for call in said.calls:
            self._called = True
            events += [*self._end_block(), *self._call(call)]
        return events

    def _begin(self, kind: Literal["text", "thinking"]) -> list[bytes]:
        """Open a block, unless one of its kind is open."""
        if self._open == kind:
            return []
        ended = self._end_block()
        self._open = kind
        block = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        return [*ended, _event("content_block_start", {"index": self._index, "content_block": block})]

    def _end_block(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        self._index += 1
        return [_event("content_block_stop", {"index": self._index - 1})]

    def _call(self, call: ToolCall) -> list[bytes]:
        index = self._index
        self._index += 1
        begun = _tool_use(call) | {"input": {}}
        arguments = json.dumps(as_object(call.arguments), ensure_ascii=False)
        delta = {"type": "input_json_delta", "partial_json": arguments}
        return [
            _event("content_block_start", {"index": index, "content_block": begun}),
            _event("content_block_delta", {"index": index, "delta": delta}),
            _event("content_block_stop", {"index": index}),
        ]

    def _delta(self, text: str) -> bytes:
        return (
            f'event: content_block_delta\ndata: {{"type": "content_block_delta", "index": {self._index}, '
            f'"delta": {{"type": "text_delta", "text": {quoted(text)}}}}}\n\n'
        ).encode()

    def failure(self, problem: Problem) -> bytes:
        return failure(problem)

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer as one object."""
        said = whole_said(completion.response, self._parser)
        self._called = bool(said.calls)
        self._prompt_tokens = completion.usage.prompt_tokens  # known at the end alone, of other servers
        reason, sequence = self._end(completion)
        words = [{"type": "text", "text": said.text}] if said.text else []
        if said.thinking and self._body.thinks:
            words.insert(0, {"type": "thinking", "thinking": said.thinking, "signature": ""})
        content = [*words, *map(_tool_use, said.calls)]
        return self._message(content, reason, sequence, completion.usage.completion_tokens)

    def _end(self, completion: Completion) -> tuple[str, str | None]:
        if completion.finish_reason is FinishReason.LENGTH:
            cut = completion.usage.completion_tokens < self._body.max_tokens
            return "model_context_window_exceeded" if cut else "max_tokens", None
        # A template may add stop strings of its own, of which this client knows nothing.
        if completion.stop_sequence in self._body.stops:
            return "stop_sequence", completion.stop_sequence
        return "tool_use" if self._called else "end_turn", None

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
            "usage": _usage(self._prompt_tokens, output_tokens),
        }


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    # Clients add the three kinds of input up, and in JavaScript one that is missing makes the sum no number.
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": prompt_tokens} | cached | {"output_tokens": output_tokens}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": as_object(call.arguments)}


def _event(kind: str, members: dict[str, Any]) -> bytes:
    data = in_one_line({"type": kind, **members})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def failure(problem: Problem) -> bytes:
    """The event of an error."""
    return b"event: error\ndata: " + in_one_line(problem.body(ANTHROPIC_PREFIX)).encode() + b"\n\n"


# -- models ------------------------------------------------------------------------------------------------------------


class ModelInfo(BaseModel):
    """A model of this server's catalog."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str


class ModelPage(BaseModel):
    """Some of the models, and whether there are more in the direction that was asked for."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


def model_info(name: str, modified_at: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": modified_at}


def model_page(
    infos: Sequence[Mapping[str, Any]], limit: int, after_id: str | None, before_id: str | None
) -> dict[str, Any]:
    """The first ``limit`` behind ``after_id``, or the last before ``before_id``.

    Raises:
        InvalidRequest: both are given, or one is no model of the list.
    """
    if after_id is not None and before_id is not None:
        raise InvalidRequest("after_id, before_id: send one of them", param="after_id")
    begin = 0 if after_id is None else _place_of(infos, after_id, "after_id") + 1
    end = len(infos) if before_id is None else _place_of(infos, before_id, "before_id")
    left = infos[begin:end]
    shown = left[:limit] if before_id is None else left[-limit:]
    names = [str(info["id"]) for info in shown]
    return {
        "data": list(shown),
        "has_more": len(left) > len(shown),
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }


def _place_of(infos: Sequence[Mapping[str, Any]], name: str, param: str) -> int:
    found = next((place for place, info in enumerate(infos) if info["id"] == name), None)
    if found is None:
        raise InvalidRequest(f"{param}: must be the id of a model that is listed", param=param)
    return found
