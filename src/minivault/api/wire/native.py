"""The native surface's bodies, and how they become :mod:`minivault.generation` values and back.

Strict: each number has its bounds and an unknown field is refused. Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag

from minivault.api.wire.strict import Items, StrictBody
from minivault.errors import InvalidRequest
from minivault.generation import Completion, FormNames, GenerationRequest, Message, SamplingParams, TokenLogprob

MAX_STOPS = 16
MAX_STOP_LENGTH = 500
MAX_TURNS = 1000
_FORM_NAMES = FormNames(schema="response_format.schema")
"""What is documented; a schema that is wrapped as OpenAI's clients do is called as it was sent."""
LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""

StopString = Annotated[str, StringConstraints(max_length=MAX_STOP_LENGTH)]


class PlainForm(StrictBody):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class NamedSchema(StrictBody):
    """A schema as OpenAI's clients wrap it; name, description and strict change nothing."""

    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    inner: dict[str, Any] | None = Field(None, alias="schema", description="A JSON Schema.")


class SchemaForm(StrictBody):
    """JSON that fits a schema: `schema`, or `json_schema` with `schema` in it."""

    type: Literal["json_schema"]
    direct: dict[str, Any] | None = Field(None, alias="schema", description="A JSON Schema.")
    json_schema: NamedSchema | None = None


class RegexForm(StrictBody):
    """Text that a regular expression matches whole."""

    type: Literal["regex"]
    regex: str = Field(min_length=1)


class GrammarForm(StrictBody):
    """Text of a grammar in Lark's syntax."""

    type: Literal["grammar"]
    grammar: str = Field(min_length=1)


def _form_tag(value: Any) -> str | None:
    """Which form a ``response_format`` is; in brackets, so that it is not taken for a field in a fault's location."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    tag = "text" if kind == "json_object" else kind
    return f"[{tag}]" if tag in ("text", "json_schema", "regex", "grammar") else None


def _object(value: Any) -> Any:
    """What has no type at all is not told which types there are."""
    if isinstance(value, dict | StrictBody):
        return value
    raise ValueError('must be an object, such as {"type": "json_object"}')


ResponseFormat = Annotated[
    Annotated[PlainForm, Tag("[text]")]
    | Annotated[SchemaForm, Tag("[json_schema]")]
    | Annotated[RegexForm, Tag("[regex]")]
    | Annotated[GrammarForm, Tag("[grammar]")],
    # Words of our own: pydantic's repeat what was sent.
    Discriminator(
        _form_tag,
        custom_error_type="form",
        custom_error_message="its type must be text, json_object, json_schema, regex or grammar",
    ),
    BeforeValidator(_object),
]


class TurnBody(StrictBody):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class GenerateRequest(StrictBody):
    """What `POST /generate` takes: `prompt` or `messages`. Leave a field out, or send null, for its default."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"prompt": "What model are you?", "max_tokens": 128, "seed": 7},
            "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
        },
    )

    prompt: str | None = Field(None, min_length=1, description="What to answer.")
    messages: Annotated[Items[TurnBody], Field(min_length=1, max_length=MAX_TURNS)] | None = Field(
        None, description="A conversation, in place of `prompt`; the last turn is the user's."
    )
    model: str | None = Field(None, min_length=1, max_length=200, description="A local model; the server's default.")
    stream: bool | None = Field(None, description="Answer in pieces: Server-Sent Events unless Accept says otherwise.")
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="Most tokens to generate; the server's default, cut to what fits."
    )
    temperature: float | None = Field(None, ge=0, le=10, description="0 always takes the most likely token.")
    top_p: float | None = Field(None, gt=0, le=1, description="Keep the likeliest tokens up to this share.")
    top_k: int | None = Field(None, ge=0, le=1_000_000, description="Keep so many of the likeliest; 0 keeps all.")
    min_p: float | None = Field(None, ge=0, le=1, description="Drop tokens below this share of the likeliest one.")
    typical_p: float | None = Field(None, gt=0, le=1, description="Keep the most typical tokens up to this share.")
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, description="Over prompt and answer; 1 is off.")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="Over the answer, once a token; 0 is off.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="Over the answer, each time; 0 is off.")
    stop: StopString | Annotated[Items[StopString], Field(max_length=MAX_STOPS)] | None = Field(
        None, description="The answer ends before the first of these; it is not part of the answer."
    )
    min_tokens: int | None = Field(None, ge=0, le=1_000_000, description="No end before so many tokens.")
    ignore_eos: bool | None = Field(None, description="Go on after the model's end of sequence.")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Same request, same bytes. Drawn when not given.")
    system: str | None = Field(None, min_length=1, description="A system turn before the prompt.")
    store: bool | None = Field(None, description="False: the vault keeps commitments, and not the content.")
    raw: bool | None = Field(None, description="True: the bare prompt, without the model's chat template.")
    echo: bool | None = Field(None, description="True: the response begins with the prompt.")
    response_format: ResponseFormat | None = Field(
        None,
        description="The form of the answer: `json_object`; `json_schema` with `schema`; `regex` with `regex`; "
        "`grammar` with `grammar`, in Lark's syntax. Sampling is held to it.",
    )
    timeout: float | None = Field(
        None, gt=0, le=86_400, description="Most seconds that the answer may take, waiting included; then an error."
    )
    logprobs: int | None = Field(
        None, ge=0, le=20, description="Log-probabilities of the tokens, with so many alternatives each."
    )

    def to_generation(self, *, stream: bool, request_id: str, raw_request: bytes) -> GenerationRequest:
        """
        Raises:
            InvalidRequest: not exactly one of `prompt` and `messages`, or the last turn is not the user's.
        """
        self._check_prompt()
        asked = self.response_format
        form = None if asked is None else asked.model_dump(by_alias=True, exclude_none=True)
        return GenerationRequest(
            prompt=self.prompt,
            messages=tuple(Message(turn.role, turn.content) for turn in self.messages or ()),
            system=self.system,
            raw=bool(self.raw),
            echo=bool(self.echo),
            model=self.model,
            sampling=self._sampling(),
            stream=stream,
            response_format=form,
            form_names=FormNames() if form is not None and "json_schema" in form else _FORM_NAMES,
            request_id=request_id,
            surface="native",
            store=self.store is not False,
            timeout=self.timeout,
            raw_request=raw_request,
        )

    def _check_prompt(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("exactly one of prompt and messages is required", param="prompt")
        if self.messages is None:
            return
        if self.messages[-1].role != "user":
            raise InvalidRequest("messages: the last turn must be the user's", param="messages")
        if self.raw:
            raise InvalidRequest("raw cannot be used with messages: turns need a chat template", param="raw")
        if self.echo:
            raise InvalidRequest("echo cannot be used with messages: there is no one prompt to repeat", param="echo")

    def _sampling(self) -> SamplingParams:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens or 0,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            stop=tuple(stop for stop in stops if stop),
            ignore_eos=bool(self.ignore_eos),
            seed=self.seed,
            logprobs=self.logprobs,
        )


CACHE_UNTOLD = "Always 0, whatever a cache held: the same request has the same answer. All of the prompt is counted."
"""Of the fields in which other servers tell what a prompt cache had."""
REASONING_UNTOLD = "Always 0: tokens of reasoning are counted with the answer's, and not told apart."


class UsageBody(BaseModel):
    """Token counts by the model's tokenizer."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class RecordBody(BaseModel):
    """Where the vault holds the call."""

    index: int = Field(ge=0, description="Index of the leaf in the vault's tree.")
    leaf: str = Field(pattern="^[0-9a-f]{64}$", description="RFC 9162 leaf hash.")


class AnswerRecordBody(RecordBody):
    """Where the vault holds the call, and where its answer was taken from."""

    taken_from: int | None = Field(
        None,
        ge=0,
        alias="from",
        description="The record that the answer was taken from; absent where it was generated.",
    )


class AlternativeBody(BaseModel):
    token: str
    bytes: list[int]
    logprob: float


class LogprobBody(AlternativeBody):
    """A token, its log-probability, and the best alternatives. `bytes` is exact where `token` cannot be."""

    top_logprobs: list[AlternativeBody]


class GenerateResponse(BaseModel):
    """A finished answer, on the record."""

    id: str
    model: str
    response: str
    finish_reason: Literal["stop", "length"]
    usage: UsageBody
    generated_at: str = Field(description="UTC, RFC 3339, Z.")
    seed: int
    record: AnswerRecordBody
    logprobs: list[LogprobBody] | None = Field(None, description="Only when asked for.")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The field that is wrong, if one is.")
    code: str


class ErrorBody(BaseModel):
    """What went wrong. Never repeats what was sent."""

    error: ErrorDetail


TokenBytes = Callable[[int], bytes]


def usage_of(completion: Completion) -> dict[str, int]:
    usage = completion.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def record_of(completion: Completion) -> dict[str, Any]:
    record = completion.record
    named: dict[str, Any] = {"index": record.index, "leaf": record.leaf}
    return named if record.from_index is None else named | {"from": record.from_index}


def logprobs_of(logprobs: tuple[TokenLogprob, ...], token_bytes: TokenBytes) -> list[dict[str, Any]]:
    return [
        _token(one.token_id, one.logprob, token_bytes)
        | {"top_logprobs": [_token(token_id, logprob, token_bytes) for token_id, logprob in one.top]}
        for one in logprobs
    ]


def _token(token_id: int, logprob: float, token_bytes: TokenBytes) -> dict[str, Any]:
    data = token_bytes(token_id)
    return {
        "token": data.decode("utf-8", "replace"),
        "bytes": list(data),
        "logprob": max(logprob, LEAST_LOGPROB),
    }


def answer_of(completion: Completion, token_bytes: TokenBytes | None) -> dict[str, Any]:
    """The body of a finished answer; with log-probabilities when ``token_bytes`` is given."""
    answer: dict[str, Any] = {
        "id": completion.id,
        "model": completion.model,
        "response": completion.response,
        "finish_reason": completion.finish_reason.value,
        "usage": usage_of(completion),
        "generated_at": completion.generated_at,
        "seed": completion.seed,
        "record": record_of(completion),
    }
    if token_bytes is not None:
        answer["logprobs"] = logprobs_of(completion.logprobs, token_bytes)
    return answer
