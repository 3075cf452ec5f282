"""The Anthropic surface: ``/v1/messages`` and its token counter.

Parses once, asks the service, writes the answer. Keys and versions in the headers are taken and not looked at. Knows
nothing of engines or of the vault.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from minivault.api import schema, streaming
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, parsed, record_header, whole_answer
from minivault.api.wire.anthropic import CountBody, MessagesBody
from minivault.api.wire.anthropic_answers import AnthropicErrorBody, CountedBody, Events, MessageBody, failure
from minivault.generation import GenerationRequest

router = APIRouter(prefix="/v1/messages", tags=["anthropic"])

_ERRORS = schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503, body=AnthropicErrorBody)


def _answer() -> dict[int | str, dict[str, Any]]:
    ok = schema.json_answer(MessageBody, 'The message, or with `"stream": true` its events.')
    ok["content"][streaming.SSE] = schema.EVENTS
    return {200: ok, **_ERRORS}


@router.post(
    "",
    summary="Answer a conversation",
    responses=_answer(),
    openapi_extra=schema.json_body(MessagesBody),
)
async def messages(request: Request) -> Response:
    """Text in, text out. With `"stream": true`: message_start, content_block_start, ping, content_block_delta and so
    on, content_block_stop, message_delta, message_stop; a failure on the way is an event `error`."""
    body, raw = await parsed(request, MessagesBody)
    opening = _messages(request, body, raw)
    return await (streaming.kept_alive(request, opening, failure) if body.stream else opening)


async def _messages(request: Request, body: MessagesBody, raw: bytes) -> Response:
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw)
    generation = await streaming.unless_gone(request, service_of(request).open(asked, caller_of(request)))
    events = Events(body, generation.id, generation.prompt_tokens, generation.answer_parser())
    named = {"request-id": generation.id}
    if asked.stream:
        return streaming.GenerationStream(generation, events, record_header(generation.intent) | named)
    return await whole_answer(request, generation, events.whole, headers=named)


@router.post(
    "/count_tokens",
    summary="Count the tokens of a conversation",
    responses={200: schema.json_answer(CountedBody, "The count."), **_ERRORS},
    openapi_extra=schema.json_body(CountBody),
)
async def count_tokens(request: Request) -> Response:
    """What the model would be given, its chat template included. Nothing runs, so nothing is recorded."""
    body, _ = await parsed(request, CountBody)
    asked = GenerationRequest(**body.conversation())
    caller = caller_of(request)
    caller.require_model(asked.model or service_of(request).models.default_name)
    return json_response({"input_tokens": await service_of(request).count_tokens(asked, caller)})
