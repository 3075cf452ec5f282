"""The Ollama surface's answers: the lines of a stream, whole answers, and what is said about models.

Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from minivault.api.problems import Problem
from minivault.api.wire.lenient import as_object, whole_said
from minivault.api.wire.native import TokenBytes, logprobs_of
from minivault.api.wire.ollama import tagged
from minivault.generation import Chunk, Completion, FinishReason, ToolCall
from minivault.models.pulling import PullProgress
from minivault.models.reasoning import reasons
from minivault.models.tool_calls import Said, ToolCallParser
from minivault.one_line import in_one_line, quoted

FOR_EVER = "9999-12-31T23:59:59Z"
"""When a loaded model leaves memory: not while the server runs."""

Kind = Literal["generate", "chat"]


class Timed(Protocol):
    """A generation, as its closing line needs it."""

    @property
    def model(self) -> str: ...
    @property
    def prompt_token_ids(self) -> Sequence[int]: ...
    @property
    def token_ids(self) -> Sequence[int]: ...
    @property
    def timings(self) -> Mapping[str, int]: ...


class AnswerBody(BaseModel):
    """A line of an answer. What stands behind `done` comes only on the last one; durations are nanoseconds."""

    model: str
    created_at: str = Field(description="UTC, RFC 3339, with a fraction.")
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[Any] | None = Field(None, description="Only when asked for.")


class GeneratedBody(AnswerBody):
    """What `POST /api/generate` answers."""

    response: str
    thinking: str | None = Field(None, description="What the model wrote before its answer; only if it did.")
    context: list[int] | None = Field(None, description="Send it back to go on from here.")


class CalledToolBody(BaseModel):
    name: str
    arguments: dict[str, Any]


class ToolCallBody(BaseModel):
    """A tool that the model wants called."""

    id: str
    function: CalledToolBody


class ChatTurnBody(BaseModel):
    role: Literal["assistant"]
    content: str
    thinking: str | None = Field(None, description="What the model wrote before its answer; only if it did.")
    tool_calls: list[ToolCallBody] | None = None


class ChattedBody(AnswerBody):
    """What `POST /api/chat` answers."""

    message: ChatTurnBody


class DetailsBody(BaseModel):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class TagBody(BaseModel):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: DetailsBody


class TagsBody(BaseModel):
    """The models of this machine."""

    models: list[TagBody]


class RunningBody(BaseModel):
    name: str
    model: str
    size: int
    digest: str
    details: DetailsBody
    expires_at: str = Field(description="When it leaves if it stays idle; far away if that is never.")
    size_vram: int
    context_length: int


class RunningModelsBody(BaseModel):
    """The models in memory."""

    models: list[RunningBody]


class ShowBody(BaseModel):
    """What is known of a model."""

    model_config = ConfigDict(protected_namespaces=())

    license: str
    modelfile: str
    parameters: str
    template: str
    details: DetailsBody
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class VersionBody(BaseModel):
    version: str = Field(description="The version of Ollama whose API this surface follows.")
    minivault: str = Field(description="The version of this server.")


class PullBody(BaseModel):
    """A line of a pull; the last one's `status` is `success`."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


class Lines:
    """Writes one answer: a line a piece, and the last with what only the end knows. Made for one answer."""

    media_type = "application/x-ndjson"

    def __init__(
        self,
        kind: Kind,
        generation: Timed,
        now: Callable[[], str],
        token_bytes: TokenBytes | None,
        parser: ToolCallParser | None = None,
        *,
        raw: bool = False,
        shows_thinking: bool = True,
    ) -> None:
        self._kind = kind
        self._generation = generation
        self._now = now
        self._token_bytes = token_bytes
        self._parser = parser
        self._raw = raw
        self._shows_thinking = shows_thinking
        self._model = tagged(generation.model)
        self._start = f'{{"model": {quoted(self._model)}, "created_at": "'

    def first(self) -> list[bytes]:
        """Nothing comes before the first piece."""
        return []

    def pieces(self, chunk: Chunk) -> list[bytes]:
        if self._parser is not None:
            return [self._said(self._parser.push(chunk.text), chunk)]
        return [self._line(chunk.text, chunk)]

    def _said(self, said: Said, chunk: Chunk) -> bytes:
        """One line of reasoning, words and calls; none where the parser holds everything back."""
        if not self._shows_thinking:
            said = said._replace(thinking="")
        if not any(said) and not (self._token_bytes and chunk.logprobs):
            return b""
        return self._line(said.text, chunk, said.calls, said.thinking)

    def _line(self, text: str, chunk: Chunk, calls: Sequence[ToolCall] = (), thinking: str = "") -> bytes:
        words = quoted(text)
        if thinking:
            words += f', "thinking": {quoted(thinking)}'
        said = f'"response": {words}' if self._kind == "generate" else f'"message": {_turn(words, calls)}'
        extra = ""
        if self._token_bytes is not None:
            extra = f', "logprobs": {in_one_line(logprobs_of(chunk.logprobs, self._token_bytes))}'
        return f'{self._start}{self._now()}", {said}, "done": false{extra}}}\n'.encode()

    def last(self, completion: Completion) -> list[bytes]:
        rest = b"" if self._parser is None else self._said(self._parser.finish(), Chunk(""))
        return [rest, in_one_line(self._done(completion, "")).encode() + b"\n"]

    def failure(self, problem: Problem) -> bytes:
        return in_one_line({"error": problem.message}).encode() + b"\n"

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer as one object."""
        said = whole_said(completion.response, self._parser)
        answer = self._done(completion, said.text)
        spoken = answer if self._kind == "generate" else answer["message"]
        if said.thinking and self._shows_thinking:
            spoken["thinking"] = said.thinking
        if said.calls:
            spoken["tool_calls"] = _called(said.calls)
        if self._token_bytes is not None:
            answer["logprobs"] = logprobs_of(completion.logprobs, self._token_bytes)
        return answer

    def _done(self, completion: Completion, text: str) -> dict[str, Any]:
        timings = self._generation.timings
        total = timings["total_ns"]
        queue = timings["queue_ns"]
        decode = timings.get("decode_ns", 0)
        answer = nothing_said(self._kind, self._model, self._now(), _reason(completion), text)
        if self._kind == "generate" and not self._raw:
            answer["context"] = [*self._generation.prompt_token_ids, *self._generation.token_ids]
        return answer | {
            "total_duration": total,
            "load_duration": queue,
            "prompt_eval_count": completion.usage.prompt_tokens,
            "prompt_eval_duration": max(0, total - queue - decode),
            "eval_count": completion.usage.completion_tokens,
            "eval_duration": decode,
        }


def nothing_said(kind: Kind, model: str, now: str, reason: str, text: str = "") -> dict[str, Any]:
    """The last line of an answer that says ``text``; alone it answers a request that only loads or unloads."""
    said: dict[str, Any] = (
        {"response": text} if kind == "generate" else {"message": {"role": "assistant", "content": text}}
    )
    return {"model": tagged(model), "created_at": now, **said, "done": True, "done_reason": reason}


PULLED: Mapping[str, str] = {"status": "success"}


def pull_step(step: PullProgress) -> dict[str, Any]:
    """A line of a pull under way: of one file, as Ollama tells of one layer."""
    return {
        "status": f"pulling {step.file}",
        "digest": step.digest,
        "total": step.file_total,
        "completed": step.file_done,
    }


def tag(entry: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """A model of the catalog, as ``tags`` lists it."""
    name = tagged(entry["name"])
    return {
        "name": name,
        "model": name,
        "modified_at": entry["modified_at"],
        "size": entry["size_bytes"],
        "digest": entry["digest"].removeprefix("sha256:"),
        "details": details(entry, precision),
    }


def running(entry: Mapping[str, Any], precision: str, utc_in: Callable[[float], str]) -> dict[str, Any]:
    """A model in memory, as ``ps`` lists it. ``utc_in`` gives the time in so many seconds."""
    listed = {name: value for name, value in tag(entry, precision).items() if name != "modified_at"}
    expires = FOR_EVER if entry["expires_in"] is None else utc_in(entry["expires_in"])
    taken = {"size": entry["memory_bytes"] or entry["size_bytes"], "expires_at": expires, "size_vram": 0}
    return listed | taken | {"context_length": entry["context_length"]}


def shown(entry: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """All that is known of a model."""
    family = entry["family"]
    return {
        "license": "",
        "modelfile": f"FROM {entry['name']}\n",
        "parameters": "",
        "template": entry["template"],
        "details": details(entry, precision),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": entry["parameters"],
            f"{family}.context_length": entry["context_length"],
            f"{family}.embedding_length": entry["hidden_size"],
            f"{family}.block_count": entry["layers"],
            f"{family}.attention.head_count": entry["attention_heads"],
            f"{family}.attention.head_count_kv": entry["kv_heads"],
            f"{family}.vocab_size": entry["vocab_size"],
        },
        "capabilities": _capabilities(entry),
        "modified_at": entry["modified_at"],
    }


def _capabilities(entry: Mapping[str, Any]) -> list[str]:
    if entry.get("kind") == "embedding":
        return ["embedding"]
    return ["completion", "tools", *(["thinking"] if reasons(entry["template"]) else [])]


def details(entry: Mapping[str, Any], precision: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": entry["family"],
        "families": [entry["family"]],
        "parameter_size": size_word(entry["parameters"]),
        "quantization_level": precision.upper(),
    }


def size_word(parameters: int) -> str:
    """``7.2B``, ``12.3M`` or ``950.0K``."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if parameters >= unit:
            return f"{parameters / unit:.1f}{name}"
    return f"{parameters / 1000:.1f}K"


def _turn(words: str, calls: Sequence[ToolCall]) -> str:
    called = f', "tool_calls": {in_one_line(_called(calls))}' if calls else ""
    return f'{{"role": "assistant", "content": {words}{called}}}'


def _called(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [{"id": call.id, "function": {"name": call.name, "arguments": as_object(call.arguments)}} for call in calls]


def _reason(completion: Completion) -> str:
    return "length" if completion.finish_reason is FinishReason.LENGTH else "stop"
