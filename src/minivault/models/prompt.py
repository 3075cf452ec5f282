"""From a request to prompt tokens: the chat template, or the bare prompt, then the tokenizer.

Knows nothing of engines, records or HTTP. Long prompts are worked on in a thread, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from minivault.errors import InvalidRequest, UnsupportedFeature
from minivault.generation import GenerationRequest, Message
from minivault.models.answer_text import Decoder

LONG_TEXT = 4096
"""Characters from which on rendering and tokenising leave the event loop."""


class PromptTokenizer(Protocol):
    def encode(self, text: str, add_special_tokens: bool) -> Sequence[int]: ...

    def decoder(self) -> Decoder: ...

    def token_bytes(self, token_id: int, /) -> bytes: ...


class PromptTemplate(Protocol):
    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str: ...


async def prompt_tokens(
    request: GenerationRequest, tokenizer: PromptTokenizer, template: PromptTemplate | None
) -> tuple[int, ...]:
    """The tokens of a request's prompt.

    Raises:
        InvalidRequest: the prompt has no tokens.
        UnsupportedFeature: turns or a system prompt, and the model has no chat template.
    """
    length = len(request.prompt or "") + sum(len(message.content) for message in request.messages)
    if length + len(request.system or "") < LONG_TEXT:
        return _prompt_tokens(request, tokenizer, template)
    return await asyncio.to_thread(_prompt_tokens, request, tokenizer, template)


def _prompt_tokens(
    request: GenerationRequest, tokenizer: PromptTokenizer, template: PromptTemplate | None
) -> tuple[int, ...]:
    messages = _messages(request, template)
    if messages and template is not None:
        # A chat template writes the special tokens itself.
        ids = tokenizer.encode(_rendered(request, messages, template), add_special_tokens=False)
    else:
        ids = tokenizer.encode(request.prompt or "", add_special_tokens=True)
    if not ids:
        raise InvalidRequest("prompt must give at least 1 token", param="prompt")
    return tuple(ids)


def _rendered(request: GenerationRequest, messages: Sequence[Message], template: PromptTemplate) -> str:
    try:
        return template.render(messages, add_generation_prompt=True)
    except InvalidRequest as error:
        if not request.messages and error.param == "messages":
            raise InvalidRequest(error.message, param="prompt") from None  # the field that this caller sent
        raise


def _messages(request: GenerationRequest, template: PromptTemplate | None) -> tuple[Message, ...]:
    """The turns for the template; none where the bare prompt is asked for, or is all that the model can take."""
    if request.raw and request.system is not None:
        raise InvalidRequest("system cannot be used with raw: a bare prompt has no turns", param="system")
    if template is None and (request.messages or request.system is not None):
        raise UnsupportedFeature(
            "this model has no chat template, so it takes a bare prompt only",
            param="messages" if request.messages else "system",
        )
    if request.raw or template is None:
        return ()
    turns = request.messages or (Message("user", request.prompt or ""),)
    return ((Message("system", request.system),) if request.system is not None else ()) + turns
