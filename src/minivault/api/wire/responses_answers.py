"""What the Responses part of the OpenAI surface answers: whole responses, and streams of named events.

Both are made by one :class:`Output`, so what a stream adds up to is the whole response. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from minivault.api.problems import Problem
from minivault.api.wire.lenient import whole_said
from minivault.api.wire.message_tokens import MessageTokens
from minivault.api.wire.native import CACHE_UNTOLD, REASONING_UNTOLD
from minivault.api.wire.openai_answers import TokenWords, token_logprobs
from minivault.api.wire.responses import ResponsesRequest
from minivault.generation import Chunk, Completion, FinishReason, TokenLogprob, ToolCall
from minivault.models.tool_calls import Said, ToolCallParser
from minivault.one_line import in_one_line

Event = dict[str, Any]
Logprobs = Sequence[Mapping[str, Any]]

_STATUSES = {
    FinishReason.STOP: "completed",
    FinishReason.LENGTH: "incomplete",
    FinishReason.CANCELLED: "cancelled",
}
_BROKEN = {"code": "server_error", "message": "The answer did not come to its end; its record says why."}


class InputDetailsBody(BaseModel):
    cached_tokens: Literal[0] = Field(description=CACHE_UNTOLD)
    cache_write_tokens: Literal[0] = Field(description=CACHE_UNTOLD)


class OutputDetailsBody(BaseModel):
    reasoning_tokens: Literal[0] = Field(description=REASONING_UNTOLD)


class ResponseUsageBody(BaseModel):
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    input_tokens_details: InputDetailsBody
    output_tokens_details: OutputDetailsBody


class ResponseBody(BaseModel):
    """A response. `resp_` and the id of the call in the vault make its id."""

    id: str
    object: Literal["response"]
    created_at: int = Field(ge=0)
    status: Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    background: bool
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int = Field(ge=0)
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsageBody | None


class DeletedResponseBody(BaseModel):
    id: str
    object: Literal["response"]
    deleted: bool


class InputTokensBody(BaseModel):
    """How many tokens the model would be given."""

    object: Literal["response.input_tokens"]
    input_tokens: int = Field(ge=0)


class Output:
    """The items of one response as they grow. Each addition gives the events that tell of it."""

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id
        self._text: list[str] | None = None
        self._thinking: list[str] | None = None
        self._logprobs: list[Mapping[str, Any]] = []
        """Of the message that is open, or else of the next."""
        self._told = 0
        """How many of them were in events."""
        self.items: list[dict[str, Any]] = []
        """Finished ones."""

    def add(self, said: Said, logprobs: Logprobs = ()) -> list[Event]:
        """``logprobs``: of tokens of the message."""
        self._logprobs.extend(logprobs)
        events = [] if not said.thinking else self._thought(said.thinking)
        if said.text:
            events += [*self._opened(), self._delta(said.text)]
        elif logprobs and self._text is not None:
            events.append(self._delta(""))
        return events + [event for call in said.calls for event in (*self.close(), *self._called(call))]

    def close(self, *, complete: bool = True) -> list[Event]:
        """End the reasoning or the message that is open, if one is."""
        if self._thinking is not None:
            return self._end_thinking()
        if self._text is None:
            return []
        place = self._place()
        item = self._message("".join(self._text), self._logprobs, complete=complete)
        part = item["content"][0]
        self._text, self._logprobs, self._told = None, [], 0
        self.items.append(item)
        return [
            {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": part["logprobs"]},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": place["output_index"], "item": item},
        ]

    def end(self, *, complete: bool) -> list[Event]:
        """End the output. One that has said nothing is a message without words."""
        opened = [] if self.items or self._thinking is not None else self._opened()
        return opened + self.close(complete=complete)

    def _thought(self, text: str) -> list[Event]:
        events: list[Event] = []
        if self._thinking is None:
            self._thinking = []
            begun = {"type": "reasoning", "id": self._reasoning_id(), "summary": [], "content": [],
                     "status": "in_progress"}  # fmt: skip
            events = [
                {"type": "response.output_item.added", "output_index": len(self.items), "item": begun},
                {"type": "response.content_part.added", **self._thinking_place(), "part": _thinking_part("")},
            ]
        self._thinking.append(text)
        return [*events, {"type": "response.reasoning_text.delta", **self._thinking_place(), "delta": text}]

    def _end_thinking(self) -> list[Event]:
        text = "".join(self._thinking or ())
        place = self._thinking_place()
        item = {"type": "reasoning", "id": self._reasoning_id(), "summary": [], "content": [_thinking_part(text)],
                "status": "completed"}  # fmt: skip
        self._thinking = None
        self.items.append(item)
        return [
            {"type": "response.reasoning_text.done", **place, "text": text},
            {"type": "response.content_part.done", **place, "part": _thinking_part(text)},
            {"type": "response.output_item.done", "output_index": place["output_index"], "item": item},
        ]

    def _thinking_place(self) -> dict[str, Any]:
        return {"item_id": self._reasoning_id(), "output_index": len(self.items), "content_index": 0}

    def _reasoning_id(self) -> str:
        return f"rs_{self._answer_id}_{len(self.items)}"

    def _opened(self) -> list[Event]:
        if self._text is not None:
            return []
        ended = [] if self._thinking is None else self._end_thinking()
        self._text = []
        begun = self._message("", (), complete=True) | {"status": "in_progress", "content": []}
        place = self._place()
        return [
            *ended,
            {"type": "response.output_item.added", "output_index": place["output_index"], "item": begun},
            {"type": "response.content_part.added", **place, "part": _part("", ())},
        ]

    def _delta(self, text: str) -> Event:
        assert self._text is not None  # noqa: S101 - opened before
        self._text.append(text)
        untold, self._told = self._logprobs[self._told :], len(self._logprobs)
        return {"type": "response.output_text.delta", **self._place(), "delta": text, "logprobs": untold}

    def _called(self, call: ToolCall) -> list[Event]:
        index, item_id = len(self.items), f"fc_{self._answer_id}_{len(self.items)}"
        said = {"call_id": call.id, "name": call.name}
        begun = {"type": "function_call", "id": item_id, **said, "arguments": "", "status": "in_progress"}
        item = begun | {"arguments": call.arguments, "status": "completed"}
        self.items.append(item)
        where = {"item_id": item_id, "output_index": index}
        return [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            {"type": "response.function_call_arguments.delta", **where, "delta": call.arguments},
            {"type": "response.function_call_arguments.done", **where, "name": call.name, "arguments": call.arguments},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id(), "output_index": len(self.items), "content_index": 0}

    def _message_id(self) -> str:
        return f"msg_{self._answer_id}_{len(self.items)}"

    def _message(self, text: str, logprobs: Logprobs, *, complete: bool) -> dict[str, Any]:
        status = "completed" if complete else "incomplete"
        return {"type": "message", "id": self._message_id(), "status": status, "role": "assistant",
                "content": [_part(text, logprobs)]}  # fmt: skip


def _part(text: str, logprobs: Logprobs) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def _thinking_part(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


class ResponseHead:
    """What is the same in a response from its beginning to its end."""

    def __init__(self, response_id: str, created: int, model: str, asked: ResponsesRequest, stored: bool) -> None:
        self.id = response_id
        self._members = {
            "id": response_id,
            "object": "response",
            "created_at": created,
            "error": None,
            "background": asked.background or False,
            "instructions": asked.instructions,
            "max_output_tokens": asked.limit,
            "metadata": asked.metadata or {},
            "model": model,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "store": stored,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}} if asked.text is None else _sent(asked.text),
            "tool_choice": _choice(asked),
            "tools": [_sent(tool) for tool in asked.tools or ()],
            "top_logprobs": asked.top_logprobs or 0,
            "top_p": asked.top_p,
            "truncation": "disabled",
        }

    def begun(self) -> dict[str, Any]:
        return self._members | {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}

    def ended(
        self, output: Sequence[Mapping[str, Any]], prompt_tokens: int, answer_tokens: int, reason: FinishReason
    ) -> dict[str, Any]:
        cut = reason is FinishReason.LENGTH
        status = _STATUSES.get(reason, "failed")
        return self._members | {
            "status": status,
            "error": _BROKEN if status == "failed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": list(output),
            "usage": {
                "input_tokens": prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": answer_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt_tokens + answer_tokens,
            },
        }


class TokensTold:
    """The log-probabilities of a message's tokens, in the form of this surface. Made for one answer."""

    def __init__(self, words: TokenWords, parser: ToolCallParser | None) -> None:
        """``parser``: a fresh one of its own."""
        self._words = words
        self._tokens = MessageTokens(words, parser)

    def push(self, text: str, logprobs: Sequence[TokenLogprob]) -> Logprobs:
        return self._formed(self._tokens.push(text, logprobs))

    def finish(self) -> Logprobs:
        return self._formed(self._tokens.finish())

    def whole(self, text: str, logprobs: Sequence[TokenLogprob]) -> Logprobs:
        """Of an answer that is all there."""
        return [*self.push(text, logprobs), *self.finish()]

    def _formed(self, tokens: Sequence[TokenLogprob]) -> Logprobs:
        """As of a chat answer, but for ``bytes``: OpenAI's Responses know no null there."""
        formed = token_logprobs(tokens, self._words)
        for one in formed:
            for each in (one, *one["top_logprobs"]):
                each["bytes"] = each["bytes"] or []
        return formed


def whole_output(
    answer_id: str, text: str, parser: ToolCallParser | None, *, complete: bool, logprobs: Logprobs = ()
) -> list[dict[str, Any]]:
    """The items of an answer that is all there. ``logprobs``: of its message's tokens."""
    output = Output(answer_id)
    output.add(whole_said(text, parser), logprobs)
    output.end(complete=complete)
    return output.items


class ResponseFraming:
    """Named events, each with its number; no ``[DONE]``, as on OpenAI's own."""

    media_type = "text/event-stream"

    def __init__(
        self, head: ResponseHead, answer_id: str, parser: ToolCallParser | None, tokens: TokensTold | None = None
    ) -> None:
        """``tokens``: given when log-probabilities were asked for."""
        self._head = head
        self._output = Output(answer_id)
        self._parser = parser
        self._tokens = tokens
        self._number = 0

    def first(self) -> list[bytes]:
        begun = self._head.begun()
        return [self._event({"type": f"response.{step}", "response": begun}) for step in ("created", "in_progress")]

    def pieces(self, chunk: Chunk) -> list[bytes]:
        said = Said(chunk.text) if self._parser is None else self._parser.push(chunk.text)
        logprobs = () if self._tokens is None else self._tokens.push(chunk.text, chunk.logprobs)
        return [self._event(event) for event in self._output.add(said, logprobs)]

    def last(self, completion: Completion) -> list[bytes]:
        complete = completion.finish_reason is FinishReason.STOP
        said = Said("") if self._parser is None else self._parser.finish()
        rest = self._output.add(said, () if self._tokens is None else self._tokens.finish())
        events = rest + self._output.end(complete=complete)
        usage = completion.usage
        ended = self._head.ended(
            self._output.items, usage.prompt_tokens, usage.completion_tokens, completion.finish_reason
        )
        end = {"type": "response.completed" if complete else "response.incomplete", "response": ended}
        return [self._event(event) for event in [*events, end]]

    def failure(self, problem: Problem) -> bytes:
        return self._event(_error(problem))

    def _event(self, event: Event) -> bytes:
        numbered = {"type": event["type"], "sequence_number": self._number} | event
        self._number += 1
        return f"event: {event['type']}\ndata: {in_one_line(numbered)}\n\n".encode()


def _sent(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(exclude_unset=True, by_alias=True)


def _choice(asked: ResponsesRequest) -> str | dict[str, Any]:
    chosen = asked.tool_choice
    return _sent(chosen) if isinstance(chosen, BaseModel) else chosen or "auto"


def failure(problem: Problem) -> bytes:
    """The event of an error, where it is the first."""
    return b"event: error\ndata: " + in_one_line(_error(problem) | {"sequence_number": 0}).encode() + b"\n\n"


def _error(problem: Problem) -> Event:
    return {"type": "error", "code": problem.code, "message": problem.message, "param": problem.param}
