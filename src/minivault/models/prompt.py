"""From a request to prompt tokens: the chat template, or the bare prompt, then the tokenizer.

Knows nothing of engines, records or HTTP. Long prompts, and short ones of costly templates, are worked on in a thread,
so that the event loop goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import GenerationRequest, JsonObject, Message
from minivault.models.answer_text import Decoder
from minivault.models.begun import Begun
from minivault.models.chat_template import DEFAULT_STOPS, ChatTemplate, CostlyTemplate, default_template
from minivault.models.reasoning import Reasoning, reasoning_of
from minivault.models.spelled import KnowsSpecials, Marking
from minivault.models.threads import Limit, Threads
from minivault.models.tool_calls import Calling, Dialect, calling_of, is_formed, told_in_words

LONG_TEXT = 4096
"""Characters from which on rendering and tokenising leave the event loop."""
TURN_SIZE = 64
"""A turn or a call without a word costs as much as so many characters."""
TOKEN_SIZE = 4
"""As does a token that is to be checked and decoded."""
BRIEF_SECONDS = 0.001
"""Most that a template may take on the event loop: one of a few turns takes 20 microseconds and going to a thread takes
60, but a template comes with its model, and may loop for as long as its own bound lets it."""
PROMPT_SECONDS = 10.0
"""Most that a long prompt may take from when a thread begins it; a template has its own bound within this."""
PROMPT_THREADS = Threads("prompt")


class PromptTokenizer(Protocol):
    def encode(self, text: str, add_special_tokens: bool) -> Sequence[int]: ...

    def decoder(self) -> Decoder: ...

    def token_bytes(self, token_id: int, /) -> bytes: ...

    def token_text(self, token_id: int, /) -> str: ...

    def is_special(self, token_id: int, /) -> bool: ...


class PromptTemplate(Protocol):
    @property
    def dialect(self) -> Dialect | None:
        """How it has tools called; ``None``: it cannot be told of tools."""

    @property
    def reasons(self) -> bool:
        """Whether its model may reason before it answers."""

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[JsonObject] = (),
        think: bool | None = None,
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given."""

    text: str
    """The words of the caller, for the record: the prompt, or the turns that were sent."""
    token_ids: tuple[int, ...]
    stop: tuple[str, ...] = ()
    """Stop strings that the form of the prompt calls for, beside the caller's own."""
    calling: Calling | None = None
    """How the answer may call tools, if any were told."""
    reasoning: Reasoning | None = None
    """Where the answer reasons, if it may."""


async def read_prompt(
    request: GenerationRequest,
    tokenizer: PromptTokenizer,
    template: PromptTemplate | None,
    vocab_size: int,
    threads: Threads = PROMPT_THREADS,
) -> Prompt:
    """A request's prompt. ``vocab_size``: how many token ids the model has.

    Raises:
        InvalidRequest: the prompt has no tokens, or one that the model does not have; or the template refuses it; or
            it took too long.
        UnsupportedFeature: a system prompt beside a bare prompt, and the model has no chat template.
        Overloaded: so many others are worked on that it did not begin.
    """

    def read(*, brief: bool = False) -> Prompt:
        _check_ids("context", request.context, vocab_size)
        if request.prompt_token_ids:
            return _of_tokens(request.prompt_token_ids, tokenizer, vocab_size)
        return _of_text(request, tokenizer, template, brief=brief)

    if not _is_long(request):
        with suppress(_NotBrief):
            return read(brief=True)
    field = "messages" if request.messages else "prompt"
    late = InvalidRequest(f"{field}: did not become tokens within {PROMPT_SECONDS:g} seconds", param=field)
    return await threads.do(read, Limit(PROMPT_SECONDS, late))


class _NotBrief(Exception):
    """What looked short is long once it is rendered: the work is done again, in a thread."""


def _is_long(request: GenerationRequest) -> bool:
    """Whether the loop would feel the work. Tools always count as long: they are JSON to be written."""
    tokens = len(request.prompt_token_ids) + len(request.context)
    size = len(request.prompt or "") + len(request.system or "") + tokens * TOKEN_SIZE
    for turn in request.messages:
        if size >= LONG_TEXT:
            break
        calls = sum(TURN_SIZE + len(call.id) + len(call.name) + len(call.arguments) for call in turn.tool_calls)
        named = len(turn.name or "") + len(turn.tool_call_id or "")
        size += TURN_SIZE + len(turn.content) + len(turn.thinking) + named + calls
    return size >= LONG_TEXT or bool(request.tools)


def _of_tokens(ids: tuple[int, ...], tokenizer: PromptTokenizer, vocab_size: int) -> Prompt:
    _check_ids("prompt", ids, vocab_size)
    decoder = tokenizer.decoder()
    return Prompt(decoder.push(ids) + decoder.finish(), ids)


def _check_ids(field: str, ids: Sequence[int], vocab_size: int) -> None:
    if not all(0 <= token_id < vocab_size for token_id in ids):
        raise InvalidRequest(f"{field}: token ids must lie in 0 to {vocab_size - 1}", param=field)


def _of_text(
    request: GenerationRequest, tokenizer: PromptTokenizer, template: PromptTemplate | None, *, brief: bool
) -> Prompt:
    """
    Raises:
        _NotBrief: it was to be ``brief``, and the template or its text is not.
    """
    messages = _messages(request, template)
    stop: tuple[str, ...] = ()
    reasoning: Reasoning | None = None
    used = template or default_template()
    calling = calling_of(request, used.dialect) if messages else None
    if not messages:
        ids = tokenizer.encode(request.prompt or "", add_special_tokens=not request.context)
    else:
        # A model's own template writes the special tokens itself.
        held = is_formed(request) or (calling is not None and calling.must)
        if held and request.begun:
            raise UnsupportedFeature(
                "messages: an answer that is held to a form, or to calls, cannot be begun", param="messages"
            )
        tools: Sequence[JsonObject] = () if calling is None else calling.tools
        marking = Marking.of(tokenizer, messages, tools)
        hurried = used.within(BRIEF_SECONDS) if brief and isinstance(used, ChatTemplate) else used
        try:
            text = _rendered(request, messages, tools, hurried, marking, held=held)
        except CostlyTemplate as error:
            raise _NotBrief if brief else _in_words_of(request, error) from None
        if brief and len(text) > LONG_TEXT:
            raise _NotBrief
        if used.reasons and not held and not request.begun:
            reasoning = reasoning_of(text if marking is None else marking.unmarked(text), messages)
        if marking is None or not isinstance(tokenizer, KnowsSpecials):
            ids = tokenizer.encode(text, add_special_tokens=template is None)
        else:
            ids = tokenizer.encode_parts(marking.parts(text), add_special_tokens=template is None)
        stop = DEFAULT_STOPS if template is None else ()
    if not ids:
        raise InvalidRequest("prompt must give at least 1 token", param="prompt")
    return Prompt(words_of(request), (*request.context, *ids), stop, calling, reasoning)


def words_of(request: GenerationRequest) -> str:
    """The words of the caller, for the record: the prompt, or the turns that were sent."""
    if request.prompt is not None:
        return request.prompt
    if len(request.messages) == 1:
        return request.messages[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in request.messages)


def _rendered(
    request: GenerationRequest,
    messages: Sequence[Message],
    tools: Sequence[JsonObject],
    template: PromptTemplate,
    marking: Marking | None,
    *,
    held: bool,
) -> str:
    """``held``: the answer has a form from its first token on, so it cannot reason."""
    if marking is not None:
        messages, tools = [marking.message(turn) for turn in messages], marking.value(list(tools))
    if template.dialect is None:
        messages, tools = told_in_words(messages, tools), ()
    think = False if held else request.think
    begun = Begun() if request.begun else None
    try:
        if begun is not None:
            marked = begun.marked(messages)
            return begun.cut(template.render(marked, add_generation_prompt=False, tools=tools, think=think))
        return template.render(messages, add_generation_prompt=True, tools=tools, think=think)
    except CostlyTemplate:
        raise
    except InvalidRequest as error:
        raise _in_words_of(request, error) from None


def _in_words_of(request: GenerationRequest, error: InvalidRequest) -> InvalidRequest:
    """The error under the field that this caller sent."""
    told = not request.messages and error.param == "messages"
    return InvalidRequest(error.message, param="prompt") if told else error


def _messages(request: GenerationRequest, template: PromptTemplate | None) -> tuple[Message, ...]:
    """The turns for the template; none where the bare prompt is asked for, or is all that the model can take."""
    if request.raw and request.system is not None:
        raise InvalidRequest("system cannot be used with raw: a bare prompt has no turns", param="system")
    if request.messages:
        return _with_system(request, request.messages)
    if template is None and request.system is not None:
        raise UnsupportedFeature("this model has no chat template, so a bare prompt takes no system", param="system")
    if request.raw or template is None:
        return ()
    return _with_system(request, (Message("user", request.prompt or ""),))


def _with_system(request: GenerationRequest, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    return ((Message("system", request.system),) if request.system is not None else ()) + turns
