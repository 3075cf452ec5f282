"""The Ollama surface's requests, and how they become :mod:`minivault.generation` values.

A limit is honoured or refused, never ignored; any other field that this server does not act on is listed in the record.
Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from minivault.api.wire.lenient import LEAST_TOP_P, LenientBody, function_tool, json_schema_format, listed
from minivault.api.wire.native import MAX_STOPS, StopString
from minivault.api.wire.openai import FunctionName, Name, OfferedFunction
from minivault.api.wire.strict import Items
from minivault.duration import MAX_LENGTH, seconds_in
from minivault.errors import UnsupportedFeature
from minivault.generation import FormNames, GenerationRequest, JsonObject, Message, SamplingParams, ToolCall
from minivault.models.begun import is_begun
from minivault.models.naming import LATEST, untagged

MAX_KEEP_SECONDS = 10**9
NO_LIMIT = 1_000_000
"""Tokens; with ``fit`` it means: as many as the context has room for."""

ModelName = Annotated[str, Field(min_length=1, max_length=200, description="A local model; no tag means :latest.")]


def tagged(name: str) -> str:
    return name if ":" in name else name + LATEST


def seconds_of(duration: float | str | None) -> float | None:
    """A ``keep_alive`` that was checked, in seconds."""
    return seconds_in(duration) if isinstance(duration, str) else duration


_NO_DURATION = "must be a duration such as 10m, or a number of seconds; negative means for ever"


def _duration(value: Any) -> Any:
    """Check a ``keep_alive``."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise ValueError(_NO_DURATION)
    try:
        seconds = seconds_of(value)
    except ValueError:
        raise ValueError(_NO_DURATION) from None
    if (seconds or 0) > MAX_KEEP_SECONDS:
        raise ValueError(f"must be at most {MAX_KEEP_SECONDS} seconds; negative means for ever")
    return value


KeepAlive = Annotated[
    Annotated[float, Field(le=MAX_KEEP_SECONDS)] | Annotated[str, Field(max_length=MAX_LENGTH)] | None,
    BeforeValidator(_duration),
    Field(
        description="How long the model stays in memory after this: a duration such as 10m, or seconds; negative: for "
        "ever. 0 with nothing to answer unloads it now."
    ),
]


class Options(LenientBody):
    """Sampling. Any other option is taken, has no effect, and is listed in the record."""

    num_predict: int | None = Field(
        None,
        ge=-2,
        le=NO_LIMIT,
        description="Most tokens to generate; -1 and -2, as many as fit, which is the default.",
    )
    num_ctx: int | None = Field(None, ge=1, le=2**31, description="Prompt and answer together get no more tokens.")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="Negative: drawn.")
    temperature: float | None = Field(None, ge=0, le=10)
    top_k: int | None = Field(None, ge=-1, le=1_000_000, description="-1 and 0: off.")
    top_p: float | None = Field(None, ge=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0.01, le=10, description="Over prompt and answer.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    stop: StopString | Annotated[Items[StopString], Field(max_length=MAX_STOPS)] | None = None

    def sampling(self, logprobs: int | None) -> SamplingParams:
        """
        Raises:
            UnsupportedFeature: ``num_predict`` is 0.
        """
        if self.num_predict == 0:
            raise UnsupportedFeature(
                "options.num_predict: must be at least 1, or -1 for as many as fit", param="options.num_predict"
            )
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            max_tokens=NO_LIMIT if self.num_predict is None or self.num_predict < 0 else self.num_predict,
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(self.top_k, 0),
            top_p=None if self.top_p is None else max(self.top_p, LEAST_TOP_P),
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            stop=tuple(stop for stop in stops if stop),
            seed=None if self.seed is None or self.seed < 0 else self.seed,
            logprobs=logprobs,
        )


class AskBody(LenientBody):
    """What generate and chat have in common."""

    model: ModelName
    stream: bool | None = Field(None, description="Answer in JSON lines; true when absent.")
    format: Literal["", "json"] | dict[str, Any] | None = Field(None, description='"json", or a JSON Schema.')
    options: Options | None = None
    keep_alive: KeepAlive = None
    think: bool | Literal["low", "medium", "high", "max"] | None = Field(
        None, description="False: no reasoning, or none that is shown, of a model that reasons."
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def streams(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        """True for a ``keep_alive`` of 0, in any unit."""
        return self.keep_seconds == 0

    @property
    def keep_seconds(self) -> float | None:
        """How long the model shall stay, negative for ever."""
        return seconds_of(self.keep_alive)

    def ignored(self) -> list[str]:
        graded = ["think"] if isinstance(self.think, str) else []  # a model here reasons or does not
        return [*graded, *self.unknown_within()]

    def response_format(self) -> JsonObject | None:
        if isinstance(self.format, dict):
            return json_schema_format(self.format)
        return {"type": "json_object"} if self.format == "json" else None

    def refuse(self, *fields: str) -> None:
        """
        Raises:
            UnsupportedFeature: one of ``fields`` asks for what this server does not do.
        """
        for name in fields:
            if getattr(self, name):
                raise UnsupportedFeature(f"{name}: {_REFUSED[name]}", param=name)

    def common(self, request_id: str, raw_request: bytes) -> dict[str, Any]:
        """Fields of a GenerationRequest."""
        options = self.options or Options.model_validate({})
        self.refuse_limits()
        options.refuse_limits("options.")
        return {
            "model": untagged(self.model),
            "keep_alive": self.keep_seconds,
            "sampling": options.sampling(self.top_logprobs or 0 if self.logprobs else None),
            "fit": True,
            "context_limit": options.num_ctx,
            "stream": self.streams,
            "response_format": self.response_format(),
            "form_names": FormNames("format", "format"),
            "think": None if self.think is None else self.think is not False,
            "request_id": request_id,
            "surface": "ollama",
            "raw_request": raw_request,
        }


class GenerateBody(AskBody):
    """What `POST /api/generate` takes."""

    prompt: str | None = Field(None, description="Nothing: the model is only made ready.")
    system: str | None = None
    context: Annotated[Items[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=NO_LIMIT)] | None = Field(
        None, description="The `context` of an earlier answer, to go on from."
    )
    raw: bool | None = Field(None, description="True: the bare prompt, without the model's chat template.")
    suffix: str | None = Field(None, description="Refused unless empty.")
    template: str | None = Field(None, description="Refused unless empty: the template is the model's.")
    images: Items[str] | None = Field(None, description="Refused unless empty.")

    @property
    def asks_nothing(self) -> bool:
        return not self.prompt

    def to_generation(self, *, request_id: str, raw_request: bytes) -> GenerationRequest:
        """
        Raises:
            UnsupportedFeature: a field asks for what this server does not do.
        """
        self.refuse("suffix", "template", "images")
        return GenerationRequest(
            prompt=self.prompt,
            system=self.system or None,
            raw=bool(self.raw),
            context=tuple(self.context or ()),
            ignored=listed(self.ignored()),
            **self.common(request_id, raw_request),
        )


class Tool(LenientBody):
    """A function that the model may call."""

    type: Literal["function"] | None = None
    function: OfferedFunction

    def offered(self) -> JsonObject:
        return function_tool(self.function.name, self.function.description, self.function.parameters)


class CalledTool(LenientBody):
    """A function that was called; its arguments are an object."""

    name: FunctionName
    arguments: dict[str, Any] | None = None


class EarlierCall(LenientBody):
    """A call that the model made in an earlier turn."""

    id: str | None = Field(None, max_length=200)
    function: CalledTool


class ChatMessage(LenientBody):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    images: Items[str] | None = Field(None, description="Refused unless empty.")
    thinking: str | None = Field(None, description="Of an answer: what its model wrote before it.")
    tool_calls: Annotated[Items[EarlierCall], Field(max_length=128)] | None = None
    tool_name: Name | None = Field(None, description="Of a tool's result: the tool.")
    tool_call_id: str | None = Field(None, max_length=200)


def _messages(turns: Sequence[ChatMessage]) -> Iterator[Message]:
    """The conversation. A result that does not say which call it answers is that of the first one left."""
    waiting: list[str] = []
    for place, turn in enumerate(turns):
        if turn.images:
            raise UnsupportedFeature(f"messages: {_REFUSED['images']}", param="messages")
        if turn.role == "tool":
            answered = turn.tool_call_id or (waiting[0] if waiting else None)
            waiting = [call for call in waiting if call != answered]
            yield Message("tool", turn.content or "", turn.tool_name, tool_call_id=answered)
            continue
        calls = tuple(_earlier(call, place, number) for number, call in enumerate(turn.tool_calls or ()))
        waiting = [call.id for call in calls] or waiting
        yield Message(turn.role, turn.content or "", tool_calls=calls, thinking=turn.thinking or "")


def _earlier(call: EarlierCall, place: int, number: int) -> ToolCall:
    arguments = json.dumps(call.function.arguments or {}, ensure_ascii=False)
    # Nine characters of letters and digits: Mistral's templates take no other ids.
    return ToolCall(call.id or f"call{place % 1000:03}{number % 100:02}", call.function.name, arguments)


class ChatBody(AskBody):
    """What `POST /api/chat` takes."""

    messages: Items[ChatMessage] | None = Field(None, description="None: the model is only made ready.")
    tools: Annotated[Items[Tool], Field(max_length=128)] | None = Field(None, description="What the model may call.")

    @property
    def asks_nothing(self) -> bool:
        return not self.messages

    def to_generation(self, *, request_id: str, raw_request: bytes) -> GenerationRequest:
        """
        Raises:
            UnsupportedFeature: a field asks for what this server does not do.
        """
        turns = self.messages or []
        messages = tuple(_messages(turns))
        return GenerationRequest(
            messages=messages,
            begun=is_begun(messages),
            tools=tuple(tool.offered() for tool in self.tools or ()),
            ignored=listed(self.ignored()),
            **self.common(request_id, raw_request),
        )


class NameBody(LenientBody):
    """What names a model, as `model` or, in older clients, `name`."""

    model: ModelName | None = None
    name: ModelName | None = Field(None, description="The older word for `model`.")

    @property
    def called(self) -> str | None:
        return self.model or self.name


class PullNameBody(NameBody):
    """What is pulled: `ORG/NAME`, or a short name."""

    stream: bool | None = Field(None, description="Answer in JSON lines; true when absent.")


class ErrorText(BaseModel):
    """What went wrong. Never repeats what was sent."""

    error: str


_REFUSED = {
    "suffix": "filling in the middle is not supported; leave it out",
    "template": "templates are taken from the model alone; leave it out, or send the bare prompt with raw",
    "images": "this version takes text only; leave images out",
}
