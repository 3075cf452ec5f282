"""The Anthropic surface: ``/v1/messages`` and its token counter.

Parses once, asks the service, writes the answer. Keys and versions in the headers are taken and not looked at. Knows
nothing of engines or of the vault.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from minivault.api import schema, streaming
from minivault.api.body import read_json_object
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, record_header
from minivault.api.wire.anthropic import AnthropicErrorBody, CountBody, CountedBody, Events, MessageBody, MessagesBody
from minivault.generation import FinishReason, GenerationRequest
from minivault.service import Generation

router = APIRouter(prefix="/v1/messages", tags=["anthropic"])

_ERRORS = schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503, body=AnthropicErrorBody)


def _answer() -> dict[int | str, dict[str, Any]]:
    ok = schema.json_answer(MessageBody, 'The message, or with `"stream": true` its events.')
    ok["content"][streaming.SSE] = {"schema": {"type": "string"}}
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
    value, raw = await read_json_object(request, request.app.state.settings.max_body_bytes)
    body = MessagesBody.model_validate(value)
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw)
    generation = await service_of(request).open(asked, caller_of(request))
    events = Events(body, generation.id, generation.prompt_tokens)
    if asked.stream:
        headers = record_header(generation.intent) | {"request-id": generation.id}
        return streaming.GenerationStream(generation, events, headers)
    return await _whole(request, generation, events)


@router.post(
    "/count_tokens",
    summary="Count the tokens of a conversation",
    responses={200: schema.json_answer(CountedBody, "The count."), **_ERRORS},
    openapi_extra=schema.json_body(CountBody),
)
async def count_tokens(request: Request) -> Response:
    """What the model would be given, its chat template included. Nothing runs, so nothing is recorded."""
    value, _ = await read_json_object(request, request.app.state.settings.max_body_bytes)
    asked = GenerationRequest(**CountBody.model_validate(value).conversation())
    return json_response({"input_tokens": await service_of(request).count_tokens(asked)})


async def _whole(request: Request, generation: Generation, events: Events) -> Response:
    try:
        async with streaming.cancelled_by_disconnect(request.receive, generation):
            completion = await generation.result()
    finally:
        generation.close()
    if completion.finish_reason is FinishReason.CANCELLED:
        return Response(status_code=499)  # nobody is there to read it
    headers = record_header(completion.record) | {"request-id": generation.id}
    return json_response(events.whole(completion), headers=headers)
