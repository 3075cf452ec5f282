"""What ``POST /v1/responses`` takes, and how it becomes :mod:`minivault.generation` values.

Knows nothing of HTTP, of the service, or of how earlier responses are found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from minivault.api.wire.lenient import LenientBody
from minivault.api.wire.openai import MAX_TOKENS, MAX_TOOLS, CommonRequest, ContentPart, FunctionName, only
from minivault.api.wire.strict import Items
from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import FormNames, GenerationRequest, JsonObject, Message, ToolCall

T = TypeVar("T")

SURFACE = "responses"
ID_PREFIX = "resp_"
_FORM_NAMES = FormNames("text.format", "text.format.schema")
_TEXTS = ("input_text", "output_text", "text")
LOGPROBS = "message.output_text.logprobs"
MAX_INCLUDED = 32


class InputItem(LenientBody):
    """A message, a call that the model made, the result of one, or the id of an item of an earlier answer. Items of
    reasoning are passed over."""

    type: Literal["message", "function_call", "function_call_output", "reasoning", "item_reference"] | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | Items[ContentPart] | None = None
    call_id: str | None = Field(None, max_length=200)
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | Items[ContentPart] | None = None
    id: str | None = Field(None, max_length=200, description="As an earlier answer named the item.")
    status: str | None = Field(None, max_length=32)
    summary: Items[Any] | None = Field(None, description="Of an item of reasoning.")

    @property
    def refers(self) -> bool:
        """Whether it stands for an item of an earlier answer."""
        return self.type == "item_reference" or (self.type is None and self.role is None and self.id is not None)


class TextFormat(LenientBody):
    """The form of the answer; sampling is held to it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    name: str | None = Field(None, max_length=200)
    description: str | None = None
    strict: bool | None = Field(None, description="An answer is held to its schema in any case.")


class TextOptions(LenientBody):
    format: TextFormat | None = None


class FlatTool(LenientBody):
    """A function that the model may call."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None

    def offered(self) -> JsonObject:
        """As the service takes tools."""
        named: dict[str, Any] = {"name": self.name}
        said = {"description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": named | {name: one for name, one in said.items() if one is not None}}


class NamedFlatTool(LenientBody):
    """The one tool that must be called."""

    type: Literal["function"]
    name: FunctionName


class SomeFlatTools(LenientBody):
    """Those of the tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Items[NamedFlatTool] = Field(min_length=1, max_length=MAX_TOOLS)


class ReasoningOptions(LenientBody):
    """Of models that reason."""

    effort: str | None = Field(
        None, max_length=32, description="`none`: no reasoning before the answer, where the model's template can tell."
    )


class ResponsesRequest(CommonRequest):
    """What `POST /v1/responses` takes."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "guide", "input": "What model are you?"}})

    input: Annotated[str, Field(min_length=1)] | Annotated[Items[InputItem], Field(min_length=1)] = Field(
        description="Text, or the turns of a conversation."
    )
    instructions: str | None = Field(None, description="A system turn; it is not taken over by later responses.")
    previous_response_id: str | None = Field(None, max_length=200, description="Goes on with that conversation.")
    max_output_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS, description="As many as fit, if left out.")
    text: TextOptions | None = None
    tools: Items[FlatTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedFlatTool | SomeFlatTools | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    metadata: dict[str, Any] | None = Field(None, max_length=64, description="Given back as it is.")
    include: Items[str] | None = Field(
        None, max_length=MAX_INCLUDED, description=f"`{LOGPROBS}`: log-probabilities of the message's tokens."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20, description="With so many alternatives each.")
    background: bool | None = Field(
        None, description="True: it is answered at once, and made while nobody waits; ask for it by its id."
    )
    conversation: str | dict[str, Any] | None = Field(None, description="Refused: send previous_response_id.")
    prompt: dict[str, Any] | None = Field(None, description="Refused: there are no stored prompts.")

    @property
    def wants_logprobs(self) -> bool:
        """Not in the background: what is asked for later comes from the vault, which holds none."""
        return LOGPROBS in (self.include or ()) and not self.background

    @property
    def offered(self) -> tuple[JsonObject, ...]:
        """The tools that may be called, as the service takes them.

        Raises:
            InvalidRequest: ``tool_choice`` allows one that is not there.
        """
        tools = tuple(tool.offered() for tool in self.tools or ())
        if not isinstance(self.tool_choice, SomeFlatTools):
            return tools
        return only(tools, [tool.name for tool in self.tool_choice.tools])

    @property
    def must_call(self) -> bool:
        """The answer is held to calls."""
        return self._choice() not in ("auto", "none")

    @property
    def turns(self) -> tuple[Message, ...]:
        """The turns of ``input`` alone.

        Raises:
            InvalidRequest, UnsupportedFeature: an item lacks what its type needs, or is no text.
        """
        return (Message("user", self.input),) if isinstance(self.input, str) else turns_of(self.input)

    def to_generation(self, *, request_id: str, raw_request: bytes, earlier: Sequence[Message]) -> GenerationRequest:
        """``earlier``: the turns of the responses that this one goes on from. Raises as :attr:`turns`."""
        self._refuse()
        limit = self.limit
        asked = self._request(
            request_id,
            raw_request,
            messages=(*self._instructions(), *earlier, *self.turns),
            sampling=self._sampling(
                MAX_TOKENS if limit is None else limit, (self.top_logprobs or 0) if self.wants_logprobs else None
            ),
            fit=limit is None,
            tools=self.offered,
            tool_choice=self._choice(),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            think=None if self._effort is None else self._effort != "none",
        )
        if (form := self._format()) is not None:
            asked = replace(asked, response_format=form, form_names=_FORM_NAMES)
        return replace(asked, surface=SURFACE)

    @property
    def _effort(self) -> str | None:
        return None if self.reasoning is None else self.reasoning.effort

    def _ignored(self) -> list[str]:
        graded = ["reasoning.effort"] if self._effort not in (None, "none") else []
        effect = LOGPROBS if self.wants_logprobs else None
        included = ["include"] if any(one != effect for one in self.include or ()) else []
        alone = ["top_logprobs"] if self.top_logprobs and effect is None else []
        return [*super()._ignored(), *graded, *included, *alone]

    def _instructions(self) -> tuple[Message, ...]:
        return () if not self.instructions else (Message("system", self.instructions),)

    def _choice(self) -> str:
        chosen = self.tool_choice
        if isinstance(chosen, SomeFlatTools):
            return chosen.mode
        return f"named:{chosen.name}" if isinstance(chosen, NamedFlatTool) else chosen or "auto"

    def _format(self) -> JsonObject | None:
        form = None if self.text is None else self.text.format
        return None if form is None else {"type": form.type, "schema": form.json_schema}

    def _refuse(self) -> None:
        if self.reasoning is not None:
            self.reasoning.refuse_limits("reasoning.")
        if self.n not in (None, 1):
            raise UnsupportedFeature("n: a response has one answer", param="n")
        if self.background and (self.stream or self.store is False):
            other = "stream" if self.stream else "store"
            raise UnsupportedFeature(f"background: goes with {other} of its default alone", param="background")
        for name in ("conversation", "prompt"):
            if getattr(self, name):
                raise UnsupportedFeature(f"{name}: this server does not have that; leave it out", param=name)


def turns_of(items: Sequence[InputItem]) -> tuple[Message, ...]:
    """The turns that ``items`` are. Calls belong to the assistant's turn before them, or make one."""
    turns: list[Message] = []
    for place, item in enumerate(items):
        field = f"input.{place}"
        if item.type == "function_call":
            call = ToolCall(_needed(item.call_id, f"{field}.call_id"), _needed(item.name, f"{field}.name"),
                            item.arguments or "{}")  # fmt: skip
            last = turns.pop() if turns and turns[-1].role == "assistant" else Message("assistant", "")
            turns.append(replace(last, tool_calls=(*last.tool_calls, call)))
        elif item.type == "function_call_output":
            turns.append(
                Message(
                    "tool",
                    _text(item.output, f"{field}.output"),
                    tool_call_id=_needed(item.call_id, f"{field}.call_id"),
                )
            )
        elif item.type != "reasoning":
            role = _needed(item.role, f"{field}.role")
            said = _text(item.content, f"{field}.content")
            turns.append(Message("system" if role == "developer" else role, said))
    return tuple(turns)


def _needed(value: T | None, field: str) -> T:
    if value is None:
        raise InvalidRequest(f"{field} is required", param=field)
    return value


def _text(content: str | list[ContentPart] | None, field: str) -> str:
    if content is None:
        raise InvalidRequest(f"{field} is required", param=field)
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        text = part.text if part.type in _TEXTS else part.refusal
        if text is None:
            raise UnsupportedFeature(
                f"{field}.{number}: the models of this server read text only, no images, sound or files",
                param=f"{field}.{number}",
            )
        texts.append(text)
    return "\n".join(texts)
