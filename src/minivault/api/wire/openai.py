"""What the OpenAI surface takes, and how it becomes :mod:`minivault.generation` values.

Lenient where OpenAI's clients differ (null is the default, unknown fields are listed in the record), strict where a
limit is asked for. Knows nothing of HTTP or of the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from minivault.api.wire.constraints import Constraints
from minivault.api.wire.lenient import LEAST_TOP_P, LenientBody, form_names, listed
from minivault.api.wire.native import MAX_STOPS, StopString
from minivault.api.wire.strict import Items, at_most
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import GenerationRequest, JsonObject, Message, SamplingParams, ToolCall
from minivault.models.begun import is_begun
from minivault.models.naming import untagged

MAX_CHOICES = 128
MAX_TOKENS = 1_000_000
MAX_BIASES = 1024
MAX_TOOLS = 128
COMPLETION_MAX_TOKENS = 16
"""What /v1/completions has always meant by leaving ``max_tokens`` out."""
SEEDS = 2**63
_FORMS = ("json_schema", "schema", "regex", "grammar")
LIMIT_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")

TokenId = Annotated[int, Field(ge=0, le=2**31)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Bias = Annotated[float, Field(ge=-100, le=100)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
BiasKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}$")]
PromptText = str
PromptTokens = Annotated[Items[TokenId], Field(min_length=1, max_length=MAX_TOKENS)]


class StreamOptions(LenientBody):
    """What a stream says beside its pieces."""

    include_usage: bool | None = Field(None, description="A last chunk with the usage.")


class AnswerForm(LenientBody):
    """The form of the answer; sampling is held to it."""

    type: Literal["text", "json_object", "json_schema", "regex", "grammar"]

    def unknown(self, prefix: str = "") -> list[str]:
        """Not the forms themselves, which the service reads."""
        return [name for name in super().unknown(prefix) if name.removeprefix(prefix) not in _FORMS]


class ContentPart(LenientBody):
    """A part of a message's content. Only text can be read by the models of this server."""

    type: str = Field(max_length=64)
    text: str | None = None
    refusal: str | None = None


class CalledFunction(LenientBody):
    """A called function; its arguments are JSON as a string."""

    name: Name
    arguments: str = ""


class EarlierToolCall(LenientBody):
    """A call that the model made in an earlier turn."""

    id: str = Field("", max_length=200)
    function: CalledFunction


class OfferedFunction(LenientBody):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON Schema; an object of any kind if left out.")


class OfferedTool(LenientBody):
    """A tool; only functions can be called."""

    type: Literal["function"]
    function: OfferedFunction


class NamedFunction(LenientBody):
    name: FunctionName


class NamedTool(LenientBody):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(LenientBody):
    mode: Literal["auto", "required"]
    tools: Items[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class SomeTools(LenientBody):
    """Those of the tools that may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ConversationTurn(LenientBody):
    """One turn. Content may be null beside tool calls, and a list of parts in every role."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Items[ContentPart] | None = None
    name: str | None = Field(None, max_length=200)
    reasoning_content: str | None = Field(None, description="Of an answer: what its model wrote before it.")
    tool_calls: Items[EarlierToolCall] | None = None
    tool_call_id: str | None = Field(None, max_length=200)

    def message(self, place: int) -> Message:
        """The turn. ``place``: which of the messages it is, for errors."""
        if self.content is None and self.role != "assistant":
            field = f"messages.{place}.content"
            raise InvalidRequest(f"{field} is required in a {self.role} message", param=field)
        content = self.content if isinstance(self.content, str) else "\n".join(self._texts(place))
        role = {"developer": "system", "function": "tool"}.get(self.role, self.role)
        calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ())
        return Message(role, content, self.name, calls, self.tool_call_id, self.reasoning_content or "")

    def _texts(self, place: int) -> Iterator[str]:
        for number, part in enumerate(self.content or ()):
            assert isinstance(part, ContentPart)  # noqa: S101 - a text was taken as one
            text = {"text": part.text, "refusal": part.refusal}.get(part.type)
            if text is None:
                field = f"messages.{place}.content.{number}"
                if part.type in ("text", "refusal"):
                    raise InvalidRequest(f"{field}.{part.type} is required", param=f"{field}.{part.type}")
                raise UnsupportedFeature(
                    f"{field}: the models of this server read text only, no images, sound or files", param=field
                )
            yield text


class CommonRequest(LenientBody):
    """What both kinds of completion take. Leave a field out, or send null, for its default."""

    model: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(untagged)] | None = Field(
        None, description="A local model; the server's default."
    )
    stream: bool | None = Field(None, description="Answer in pieces, as Server-Sent Events.")
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="So many answers; choice i has the seed plus i.")
    temperature: float | None = Field(None, ge=0, le=10, description="0 always takes the most likely token.")
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=1_000_000, description="0 and -1 keep all.")
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[BiasKey, Bias], Field(max_length=MAX_BIASES), at_most(MAX_BIASES)] | None = Field(
        None, description="Token ids to values added."
    )
    stop: StopString | Annotated[Items[StopString], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[Items[TokenId], Field(max_length=64)] | None = None
    min_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS)
    ignore_eos: bool | None = None
    seed: int | None = Field(None, ge=-SEEDS, le=SEEDS - 1, description="Same request, same bytes.")
    store: bool | None = Field(None, description="False: the vault keeps commitments, and not the content.")
    response_format: AnswerForm | None = None
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="Most tokens of an answer.")
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="The same limit by another name.")
    max_output_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="The same limit by another name.")

    @property
    def limit(self) -> int | None:
        """The most tokens of an answer, under whichever name it came.

        Raises:
            InvalidRequest: two names, two limits.
        """
        sent = {name: value for name in LIMIT_NAMES if (value := getattr(self, name)) is not None}
        if len(set(sent.values())) > 1:
            raise InvalidRequest(f"{' and '.join(sent)} are one limit: send one", param=next(iter(sent)))
        return next(iter(sent.values()), None)

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage is True

    def _sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or 0,
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(0, self.top_k),
            top_p=None if self.top_p is None else max(LEAST_TOP_P, self.top_p),
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((int(token_id), bias) for token_id, bias in (self.logit_bias or {}).items()),
            stop=tuple(stop for stop in stops if stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos or False,
            seed=None if self.seed is None else self.seed % SEEDS,
            logprobs=logprobs,
        )

    def _ignored(self) -> list[str]:
        """Names of fields that have no effect."""
        return list(self.unknown_within())

    def _request(self, request_id: str, raw_request: bytes, **fields: Any) -> GenerationRequest:
        self.refuse_limits()
        form = None if self.response_format is None else self.response_format.model_dump()
        names = form_names(form)
        if isinstance(self, Constraints) and (constraint := self.constraint()) is not None:
            if form is not None and form["type"] != "text":
                field = constraint[1].form
                raise InvalidRequest(f"response_format and {field} are one form: send one", param="response_format")
            form, names = constraint
        return GenerationRequest(
            model=self.model,
            stream=self.stream or False,
            response_format=form,
            form_names=names,
            store=self.store is not False,
            request_id=request_id,
            surface="openai",
            ignored=listed(self._ignored()),
            raw_request=raw_request,
            **fields,
        )


class TemplateOptions(LenientBody):
    """What is passed to the model's chat template; anything else is listed in the record."""

    enable_thinking: bool | None = Field(None, description="False: as `reasoning_effort` of `none`.")


class ChatCompletionRequest(CommonRequest, Constraints):
    """What `POST /v1/chat/completions` takes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "guide", "messages": [{"role": "user", "content": "What model are you?"}], "seed": 7}
        }
    )

    messages: Items[ConversationTurn] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="As many as fit, if left out.")
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="The same limit by its older name.")
    logprobs: bool | None = Field(None, description="Log-probabilities of the answer's tokens.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="With so many alternatives each.")
    modalities: Items[str] | None = Field(None, max_length=8)
    audio: dict[str, Any] | None = None
    tools: Items[OfferedTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | SomeTools | None = Field(
        None, description="`required` and a named tool hold the answer to calls while it is sampled."
    )
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call in an answer.")
    reasoning_effort: str | None = Field(
        None, max_length=32, description="`none`: no reasoning before the answer, where the model's template can tell."
    )
    chat_template_kwargs: TemplateOptions | None = None
    continue_final_message: bool | None = Field(
        None, description="True: the last message is the beginning of the answer, which goes on from it."
    )
    functions: Items[dict[str, Any]] | None = Field(None, description="Refused: send tools.")
    function_call: str | dict[str, Any] | None = Field(None, description="Refused: send tool_choice.")

    def to_generation(self, *, request_id: str, raw_request: bytes) -> GenerationRequest:
        """
        Raises:
            UnsupportedFeature, InvalidRequest: a part that no model here can take, or a turn without content.
        """
        self._refuse()
        limit = self.limit
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        messages = tuple(message.message(place) for place, message in enumerate(self.messages))
        return self._request(
            request_id,
            raw_request,
            messages=messages,
            begun=self._begun(messages),
            sampling=self._sampling(MAX_TOKENS if limit is None else limit, logprobs),
            fit=limit is None,
            tools=self._offered(),
            tool_choice=self._choice(),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            think=self._think(),
        )

    def _ignored(self) -> list[str]:
        graded = self.reasoning_effort not in (None, "none")  # a model here reasons or does not
        return [*super()._ignored(), *(["reasoning_effort"] if graded else [])]

    def _think(self) -> bool | None:
        if self.reasoning_effort is not None:
            return self.reasoning_effort != "none"
        return None if self.chat_template_kwargs is None else self.chat_template_kwargs.enable_thinking

    def _choice(self) -> str:
        chosen = self.tool_choice
        if isinstance(chosen, SomeTools):
            return chosen.allowed_tools.mode
        return f"named:{chosen.function.name}" if isinstance(chosen, NamedTool) else chosen or "auto"

    def _offered(self) -> tuple[JsonObject, ...]:
        offered = tuple(tool.model_dump(exclude_unset=True) for tool in self.tools or ())
        if not isinstance(self.tool_choice, SomeTools):
            return offered
        return only(offered, [tool.function.name for tool in self.tool_choice.allowed_tools.tools])

    def _begun(self, messages: Sequence[Message]) -> bool:
        if not self.continue_final_message:
            return False
        if not is_begun(messages):
            raise InvalidRequest(
                "continue_final_message: the last message must be the assistant's, which the answer goes on from",
                param="continue_final_message",
            )
        return True

    def _refuse(self) -> None:
        if self.chat_template_kwargs is not None:
            self.chat_template_kwargs.refuse_limits("chat_template_kwargs.")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
        if self.audio is not None or any(kind != "text" for kind in self.modalities or ()):
            raise UnsupportedFeature("modalities: the models of this server write text only", param="modalities")
        if self.functions:
            raise UnsupportedFeature("functions: send tools, which took their place", param="functions")
        if self.function_call not in (None, "none", "auto"):
            raise UnsupportedFeature("function_call: send tool_choice, which took its place", param="function_call")


def only(tools: Sequence[JsonObject], names: Sequence[str]) -> tuple[JsonObject, ...]:
    """Those of ``tools`` that have these names.

    Raises:
        InvalidRequest: one is not there.
    """
    allowed = tuple(tool for tool in tools if tool["function"]["name"] in names)
    if not set(names) <= {tool["function"]["name"] for tool in allowed}:
        raise InvalidRequest("tool_choice: its tools are not all among tools", param="tool_choice")
    return allowed


def texts_or_tokens(value: Any, taken: ValidatorFunctionWrapHandler, most: int) -> Any:
    """A text, token ids, or up to ``most`` of either: of four ways, none can say what was meant, but where all that was
    sent is text."""
    try:
        return taken(value)
    except ValidationError:
        if value == []:
            raise ValueError("must have at least 1 item") from None
        texts = value if isinstance(value, list) else [value]
        if len(texts) <= most and all(isinstance(one, str) for one in texts):
            raise
        raise ValueError(f"must be text, token ids, or a list of 1 to {most} texts or lists of token ids") from None


class CompletionRequest(CommonRequest, Constraints):
    """What `POST /v1/completions` takes: a bare prompt, or several, as text or as token ids."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "guide", "prompt": "Once upon a time"}})

    prompt: (
        PromptText
        | Annotated[Items[PromptText], Field(min_length=1, max_length=MAX_CHOICES)]
        | PromptTokens
        | Annotated[Items[PromptTokens], Field(min_length=1, max_length=MAX_CHOICES)]
    ) = Field(description="Text, token ids, or a list of either.")
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description=f"{COMPLETION_MAX_TOKENS}, if left out.")
    logprobs: int | None = Field(None, ge=0, le=20, description="Log-probabilities, with so many alternatives each.")
    echo: bool | None = Field(None, description="The text begins with the prompt.")
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES, description="Only as much as n.")
    suffix: str | None = Field(None, description="Refused, but for an empty one.")

    @field_validator("prompt", mode="wrap")
    @classmethod
    def _in_one_of_four_ways(cls, value: Any, taken: ValidatorFunctionWrapHandler) -> Any:
        return texts_or_tokens(value, taken, MAX_CHOICES)

    @property
    def prompts(self) -> Sequence[str | tuple[int, ...]]:
        """One prompt each."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(token for token in self.prompt if isinstance(token, int))]
        return [one if isinstance(one, str) else tuple(one) for one in self.prompt if not isinstance(one, int)]

    def to_generations(self, *, request_id: str, raw_request: bytes) -> list[GenerationRequest]:
        """One request a prompt; ``n`` is the caller's to spread.

        Raises:
            UnsupportedFeature, InvalidRequest: what no model here can do, or more choices than are allowed.
        """
        self._refuse()
        asked = self.limit
        limit = COMPLETION_MAX_TOKENS if asked is None else asked
        fields: dict[str, Any] = {
            "sampling": self._sampling(max(limit, self.min_tokens or 0), self.logprobs),
            "fit": asked is None,
            "echo": self.echo or False,
            "raw": True,
        }
        return [self._request(request_id, raw_request, **fields, **{_prompt_field(one): one}) for one in self.prompts]

    def _refuse(self) -> None:
        if len(self.prompts) * self.choices > MAX_CHOICES:
            raise InvalidRequest(f"n: prompts times n must be at most {MAX_CHOICES}", param="n")
        if self.best_of is not None and self.best_of != self.choices:
            raise UnsupportedFeature("best_of: all answers are given, so it can only be what n is", param="best_of")
        if self.suffix:
            raise UnsupportedFeature("suffix: no model here can fill in a gap", param="suffix")
        if self.echo and self.logprobs is not None:
            raise UnsupportedFeature("logprobs: there are none of an echoed prompt", param="logprobs")


def _prompt_field(prompt: str | tuple[int, ...]) -> str:
    return "prompt" if isinstance(prompt, str) else "prompt_token_ids"
