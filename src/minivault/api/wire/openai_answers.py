"""What the OpenAI surface answers: whole bodies, chunks of streams, and log-probabilities in both of its forms.

A chunk is joined by hand around one escaped string, so that a token costs microseconds. Knows nothing of routes.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from minivault.api.problems import Problem
from minivault.api.wire.lenient import whole_said
from minivault.api.wire.native import LEAST_LOGPROB, UsageBody
from minivault.generation import Chunk, Completion, FinishReason, TokenLogprob, ToolCall
from minivault.models.tool_calls import Said, ToolCallParser
from minivault.one_line import in_one_line, quoted

DONE = b"data: [DONE]\n\n"


class TokenWords(Protocol):
    """What a model's tokens stand for."""

    def token_bytes(self, token_id: int, /) -> bytes: ...
    def token_text(self, token_id: int, /) -> str: ...
    def is_special(self, token_id: int, /) -> bool: ...


# -- what the document says --------------------------------------------------------------------------------------------


class AnswerBody(BaseModel):
    """Any whole answer."""


class TokenLogprobBody(BaseModel):
    """A token. `bytes` is exact where `token` is a part of a character, and null for special tokens."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChosenLogprobBody(TokenLogprobBody):
    top_logprobs: list[TokenLogprobBody]


class ChatLogprobsBody(BaseModel):
    content: list[ChosenLogprobBody] | None
    refusal: str | None


class CalledFunctionBody(BaseModel):
    name: str
    arguments: str = Field(description="JSON, as a string.")


class CallBody(BaseModel):
    """A tool that the model wants to be called."""

    id: str
    type: Literal["function"]
    function: CalledFunctionBody


class ChatMessageBody(BaseModel):
    role: Literal["assistant"]
    content: str | None = Field(description="Null where there are calls alone.")
    refusal: str | None
    reasoning_content: str | None = Field(None, description="What the model wrote before its answer; only if it did.")
    tool_calls: list[CallBody] | None = Field(None, description="Only where there are some.")


class ChatChoiceBody(BaseModel):
    index: int = Field(ge=0)
    message: ChatMessageBody
    logprobs: ChatLogprobsBody | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletionBody(AnswerBody):
    """A finished answer. Its id is that of its record, which the header X-Request-ID gives alone, after `chatcmpl-`."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(ge=0, description="Seconds since 1970.")
    model: str
    system_fingerprint: str = Field(description="Changes when the weights or the engine do.")
    choices: list[ChatChoiceBody]
    usage: UsageBody


class TextLogprobsBody(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoiceBody(BaseModel):
    index: int = Field(ge=0)
    text: str
    logprobs: TextLogprobsBody | None
    finish_reason: Literal["stop", "length"]


class TextCompletionBody(AnswerBody):
    """A finished text."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(ge=0)
    model: str
    system_fingerprint: str
    choices: list[TextChoiceBody]
    usage: UsageBody


class ModelCard(BaseModel):
    """A model of this server's catalog."""

    id: str
    object: Literal["model"]
    created: int = Field(ge=0)
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


# -- what is said ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What is the same in all parts of an answer."""

    id: str
    created: int
    model: str
    fingerprint: str
    choices: int = 1
    choices_a_prompt: int = 1
    """Choices of one prompt follow each other; its tokens are counted once."""

    def members(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def usage_of(completions: Sequence[Completion], head: AnswerHead) -> dict[str, int]:
    prompt = sum(one.usage.prompt_tokens for one in completions if one.choice % head.choices_a_prompt == 0)
    answer = sum(one.usage.completion_tokens for one in completions)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def chat_answer(
    head: AnswerHead,
    completions: Sequence[Completion],
    words: Sequence[TokenWords] | None,
    parsers: Sequence[ToolCallParser | None],
) -> dict[str, Any]:
    """The whole body. ``words`` and ``parsers`` have one of each choice: those when log-probabilities were asked for,
    these for answers of parts."""
    choices = []
    for one, parser, logprobs in zip(completions, parsers, _told(completions, words, chat_logprobs), strict=True):
        said = whole_said(one.response, parser)
        choices.append(
            {
                "index": one.choice,
                "message": _message(said),
                "logprobs": logprobs,
                "finish_reason": _reason(one, called=bool(said.calls)),
            }
        )
    return head.members("chat.completion") | {"choices": choices, "usage": usage_of(completions, head)}


def _message(said: Said) -> dict[str, Any]:
    content = None if said.calls and not said.text else said.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if said.thinking:
        message["reasoning_content"] = said.thinking
    return message | ({"tool_calls": [_call(call) for call in said.calls]} if said.calls else {})


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _reason(completion: Completion, *, called: bool) -> str:
    return "tool_calls" if called and completion.finish_reason is FinishReason.STOP else completion.finish_reason.value


def text_answer(
    head: AnswerHead, completions: Sequence[Completion], words: Sequence[TokenWords] | None
) -> dict[str, Any]:
    """As :func:`chat_answer`, of a text completion."""
    choices = [
        {
            "index": one.choice,
            "text": one.response,
            "logprobs": logprobs,
            "finish_reason": one.finish_reason.value,
        }
        for one, logprobs in zip(completions, _told(completions, words, text_logprobs), strict=True)
    ]
    return head.members("text_completion") | {"choices": choices, "usage": usage_of(completions, head)}


def _told(
    completions: Sequence[Completion],
    words: Sequence[TokenWords] | None,
    form: Callable[[Sequence[TokenLogprob], TokenWords], dict[str, Any]],
) -> list[dict[str, Any] | None]:
    """The log-probabilities of each choice, by its own words."""
    if words is None:
        return [None] * len(completions)
    return [form(one.logprobs, own) for one, own in zip(completions, words, strict=True)]


def text_logprobs(logprobs: Sequence[TokenLogprob], words: TokenWords) -> dict[str, Any]:
    return TextLogprobs(words).of(logprobs)


def chat_logprobs(logprobs: Sequence[TokenLogprob], words: TokenWords) -> dict[str, Any]:
    return {"content": token_logprobs(logprobs, words), "refusal": None}


def token_logprobs(logprobs: Sequence[TokenLogprob], words: TokenWords) -> list[dict[str, Any]]:
    """Each token with its alternatives, as a chat answer has them."""
    return [
        _token(one.token_id, one.logprob, words)
        | {"top_logprobs": [_token(token_id, logprob, words) for token_id, logprob in one.top]}
        for one in logprobs
    ]


def _token(token_id: int, logprob: float, words: TokenWords) -> dict[str, Any]:
    """``bytes`` is exact where ``token`` is a part of a character; special tokens stand for no bytes."""
    data = None if words.is_special(token_id) else list(words.token_bytes(token_id))
    return {"token": words.token_text(token_id), "logprob": max(logprob, LEAST_LOGPROB), "bytes": data}


class TokenLengths:
    """How many characters each token adds to an answer; 0 for the first parts of a split one. Made for one answer."""

    def __init__(self, words: TokenWords) -> None:
        self._words = words
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, token_id: int) -> int:
        """Of the next token."""
        return len(self._utf8.decode(self._words.token_bytes(token_id)))


class TextLogprobs:
    """The older form, in which a part of a character is spelt ``bytes:\\xe2``. Made for one answer: it counts."""

    def __init__(self, words: TokenWords) -> None:
        self._words = words
        self._offset = 0
        self._lengths = TokenLengths(words)

    def of(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """``text_offset`` is where a token's text begins in the answer, in characters."""
        offsets = []
        for one in logprobs:
            offsets.append(self._offset)
            self._offset += self._lengths.of(one.token_id)
        return {
            "tokens": [self._spelt(one.token_id) for one in logprobs],
            "token_logprobs": [max(one.logprob, LEAST_LOGPROB) for one in logprobs],
            "top_logprobs": [
                {self._spelt(token_id): max(logprob, LEAST_LOGPROB) for token_id, logprob in one.top}
                for one in logprobs
            ],
            "text_offset": offsets,
        }

    def _spelt(self, token_id: int) -> str:
        if self._words.is_special(token_id):
            return self._words.token_text(token_id)
        data = self._words.token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


# -- streams -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Chunks:
    """Writes the chunks of one stream, and knows when the last answer has ended."""

    head: AnswerHead
    kind: str
    includes_usage: bool
    ended: list[Completion] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Joined once: only the choice changes from chunk to chunk.
        self._before = "data: " + in_one_line(self.head.members(self.kind))[:-1]
        self._usage = ', "usage": null' if self.includes_usage else ""

    _before: str = ""
    _usage: str = ""

    def chunk(self, choice: int, said: str, logprobs: Mapping[str, Any] | None, reason: str | None) -> bytes:
        """``said``: the choice's own member, as JSON."""
        told = "null" if logprobs is None else in_one_line(logprobs)
        ends = "null" if reason is None else f'"{reason}"'
        return (
            f'{self._before}, "choices": [{{"index": {choice}, {said}, "logprobs": {told}, '
            f'"finish_reason": {ends}}}]{self._usage}}}\n\n'
        ).encode()

    def after(self, completion: Completion) -> list[bytes]:
        """What follows the end of an answer: nothing, or if it was the last, the usage and the end of the stream."""
        self.ended.append(completion)
        if len(self.ended) < self.head.choices:
            return []
        if not self.includes_usage:
            return [DONE]
        usage = in_one_line(usage_of(self.ended, self.head))
        return [f'{self._before}, "choices": [], "usage": {usage}}}\n\n'.encode(), DONE]


class ChatFraming:
    """``chat.completion.chunk`` events: the role, the pieces, an empty delta with the finish reason, the usage."""

    media_type = "text/event-stream"

    def __init__(
        self,
        head: AnswerHead,
        *,
        includes_usage: bool,
        words: Sequence[TokenWords] | None,
        parsers: Sequence[ToolCallParser | None],
    ) -> None:
        """``words`` and ``parsers`` as :func:`chat_answer` takes them."""
        self._head = head
        self._chunks = _Chunks(head, "chat.completion.chunk", includes_usage)
        self._words = words
        self._parsers = parsers
        self._called = [0] * head.choices
        self._untold: list[list[TokenLogprob]] = [[] for _ in range(head.choices)]

    def first(self) -> list[bytes]:
        role = '"delta": {"role": "assistant", "content": ""}'
        return [self._chunks.chunk(choice, role, None, None) for choice in range(self._head.choices)]

    def pieces(self, chunk: Chunk) -> list[bytes]:
        parser = self._parsers[chunk.choice]
        if parser is not None:
            self._untold[chunk.choice].extend(chunk.logprobs)
            return [self._said(chunk.choice, parser.push(chunk.text))]
        logprobs = None if self._words is None else chat_logprobs(chunk.logprobs, self._words[chunk.choice])
        return [self._chunks.chunk(chunk.choice, f'"delta": {{"content": {quoted(chunk.text)}}}', logprobs, None)]

    def last(self, completion: Completion) -> list[bytes]:
        choice = completion.choice
        parser = self._parsers[choice]
        rest = b"" if parser is None else self._said(choice, parser.finish())
        reason = _reason(completion, called=self._called[choice] > 0)
        end = self._chunks.chunk(choice, '"delta": {}', self._logprobs(choice), reason)
        return [rest, end, *self._chunks.after(completion)]

    def _said(self, choice: int, said: Said) -> bytes:
        """A delta of reasoning, words and whole calls; nothing, where the parser holds back what it got."""
        if not any(said):
            return b""
        delta: dict[str, Any] = {"reasoning_content": said.thinking} if said.thinking else {}
        if said.text:
            delta["content"] = said.text
        if said.calls:
            first = self._called[choice]
            delta["tool_calls"] = [{"index": first + place} | _call(call) for place, call in enumerate(said.calls)]
            self._called[choice] += len(said.calls)
        return self._chunks.chunk(choice, f'"delta": {in_one_line(delta)}', self._logprobs(choice), None)

    def _logprobs(self, choice: int) -> dict[str, Any] | None:
        """Of what came since they were last told: of tokens too that the parser let go of without a word."""
        told, self._untold[choice] = self._untold[choice], []
        return chat_logprobs(told, self._words[choice]) if told and self._words is not None else None

    def failure(self, problem: Problem) -> bytes:
        return failure(problem)


class TextFraming:
    """``text_completion`` events: the pieces, an empty text with the finish reason, the usage."""

    media_type = "text/event-stream"

    def __init__(self, head: AnswerHead, *, includes_usage: bool, words: Sequence[TokenWords] | None) -> None:
        self._chunks = _Chunks(head, "text_completion", includes_usage)
        self._logprobs = None if words is None else [TextLogprobs(own) for own in words]

    def first(self) -> list[bytes]:
        return []

    def pieces(self, chunk: Chunk) -> list[bytes]:
        logprobs = None if self._logprobs is None else self._logprobs[chunk.choice].of(chunk.logprobs)
        return [self._chunks.chunk(chunk.choice, f'"text": {quoted(chunk.text)}', logprobs, None)]

    def last(self, completion: Completion) -> list[bytes]:
        reason = completion.finish_reason.value
        return [self._chunks.chunk(completion.choice, '"text": ""', None, reason), *self._chunks.after(completion)]

    def failure(self, problem: Problem) -> bytes:
        return failure(problem)


def failure(problem: Problem) -> bytes:
    """The event of a stream that broke; no ``[DONE]`` follows it."""
    return b"data: " + in_one_line(problem.body()).encode() + b"\n\n"
