"""The Responses part of the OpenAI surface: ``/v1/responses``. What was said before comes from the vault.

Parses once, asks the service, writes the answer. Knows nothing of engines, or of how records are kept.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from minivault.api import schema, streaming
from minivault.api.background import Background
from minivault.api.earlier import Earlier, body_of, call_id_of, call_of, output_of
from minivault.api.entrance import outlive
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, parsed, record_header
from minivault.api.wire import responses_answers as answers
from minivault.api.wire.responses import ID_PREFIX, ResponsesRequest
from minivault.api.wire.responses_items import ItemListBody, Order, page_of
from minivault.errors import InvalidRequest, UnknownRecord, UnsupportedFeature
from minivault.generation import FinishReason
from minivault.service import EarlierCall, Generation

router = APIRouter(prefix="/v1/responses", tags=["openai"])
_created = schema.json_answer(answers.ResponseBody, "The response. A stream that fails has an event `error`.")
_created["content"][streaming.SSE] = schema.EVENTS
ResponseId = Annotated[str, Path(max_length=200, description="`resp_` and the id of the call.")]


@router.post(
    "",
    summary="Answer, and go on from earlier answers",
    responses={
        200: _created,
        **schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(ResponsesRequest),
)
async def create(request: Request) -> Response:
    """As OpenAI's; with `"stream": true` as named Server-Sent Events."""
    body, raw = await parsed(request, ResponsesRequest)
    opening = _create(request, body, raw)
    return await (streaming.kept_alive(request, opening, answers.failure) if body.stream else opening)


async def _create(request: Request, body: ResponsesRequest, raw: bytes) -> Response:
    if body.background and not caller_of(request).store:
        raise UnsupportedFeature("background: nothing of this API key's is kept to be asked for", param="background")
    before = Earlier(request)
    earlier = await before.turns(body.previous_response_id)
    asked = (await before.resolved(body)).to_generation(
        request_id=request.state.request_id, raw_request=raw, earlier=earlier
    )
    generation = await streaming.unless_gone(request, service_of(request).open(asked, caller_of(request)))
    created = int(datetime.fromisoformat(service_of(request).utc_now()).timestamp())
    stored = asked.store and caller_of(request).store
    head = answers.ResponseHead(ID_PREFIX + generation.id, created, generation.model, body, stored)
    if body.background:
        background_of(request).run(generation, outlive(request.scope))
        return json_response(head.begun(), headers=record_header(generation.intent))
    if asked.stream:
        framing = answers.ResponseFraming(head, generation.id, generation.answer_parser(), _told_of(generation))
        return streaming.GenerationStream(generation, framing, record_header(generation.intent))
    return await _whole(request, generation, head)


@router.post(
    "/input_tokens",
    summary="Count the tokens of a request",
    responses={
        200: schema.json_answer(answers.InputTokensBody, "The count."),
        **schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(ResponsesRequest),
)
async def input_tokens(request: Request) -> Response:
    """What the model would be given, what it goes on from included. Nothing runs, so nothing is recorded."""
    body, raw = await parsed(request, ResponsesRequest)
    before = Earlier(request)
    earlier = await before.turns(body.previous_response_id)
    asked = (await before.resolved(body)).to_generation(request_id="", raw_request=raw, earlier=earlier)
    caller = caller_of(request)
    caller.require_model(asked.model or service_of(request).models.default_name)
    count = await service_of(request).count_tokens(asked, caller)
    return json_response({"object": "response.input_tokens", "input_tokens": count})


def background_of(request: Request) -> Background:
    background: Background = request.app.state.background
    return background


@router.get(
    "/{response_id}",
    summary="An earlier response",
    responses={
        200: schema.json_answer(answers.ResponseBody, "The response."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def retrieve(
    request: Request,
    response_id: ResponseId,
    stream: Annotated[bool | None, Query(description="Refused if true: it is shown as far as it is.")] = None,
) -> Response:
    """From the vault, with its `status`. 404 if there is none, or its content was erased or not stored."""
    if stream:
        raise UnsupportedFeature("stream: an earlier response is shown whole; ask again until it ends", param="stream")
    return await _shown(request, call_id_of(response_id))


async def _shown(request: Request, call_id: str) -> Response:
    call = await call_of(request, call_id, whole=False)
    return await asyncio.to_thread(_retrieved, call)


def _retrieved(call: EarlierCall) -> Response:
    body = body_of(call)
    head = answers.ResponseHead(ID_PREFIX + call.id, call.time_ns // 1_000_000_000, call.model, body, stored=True)
    if call.finish_reason is None:
        return json_response(head.begun())
    output = output_of(call, body) if call.whole or call.response else []
    return json_response(head.ended(output, call.prompt_tokens, call.completion_tokens, call.finish_reason))


@router.get(
    "/{response_id}/input_items",
    summary="What a response was made from",
    responses={
        200: schema.json_answer(ItemListBody, "The items."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def input_items(
    request: Request,
    response_id: ResponseId,
    after: Annotated[str | None, Query(max_length=200, description="Behind the item of this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
) -> Response:
    """Its input, and the input and output of those that it went on from; newest first unless `order` is `asc`."""
    call = await call_of(request, call_id_of(response_id), whole=False)
    items = await Earlier(request).items(call)
    return json_response(await asyncio.to_thread(page_of, items, order, after, limit))


@router.post(
    "/{response_id}/cancel",
    summary="Stop a response",
    responses={
        200: schema.json_answer(answers.ResponseBody, "The response, which has ended."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def cancel(request: Request, response_id: ResponseId) -> Response:
    """Of one that was asked for with `background`; others stop when their clients hang up. One that has ended stays."""
    call_id = call_id_of(response_id)
    call = await call_of(request, call_id, whole=False)
    if not (await asyncio.to_thread(body_of, call)).background:
        raise InvalidRequest("response_id: only a response with background can be cancelled", param="response_id")
    await background_of(request).cancel(call_id)
    return await _shown(request, call_id)


@router.delete(
    "/{response_id}",
    summary="Erase an earlier response",
    responses={
        200: schema.json_answer(answers.DeletedResponseBody, "Its content is gone."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def delete(request: Request, response_id: ResponseId) -> Response:
    """Erases its content from the vault; that it was, and what it depended on, stays provable. One that runs in the
    background is stopped first."""
    call = await call_of(request, call_id_of(response_id), whole=False)
    await background_of(request).cancel(call.id)
    if (await call_of(request, call.id, whole=False)).finish_reason is None:
        raise UnknownRecord("that response has not ended yet")
    caller = caller_of(request)
    await service_of(request).records.erase(call.id, owner=caller.owner, api_key_id=caller.api_key_id)
    return json_response({"id": response_id, "object": "response", "deleted": True})


async def _whole(request: Request, generation: Generation, head: answers.ResponseHead) -> Response:
    try:
        async with streaming.cancelled_by_disconnect(request.receive, generation):
            ended = await generation.result()
    finally:
        generation.close()
    if ended.finish_reason is FinishReason.CANCELLED:
        return Response(status_code=499)  # nobody is there to read it
    complete = ended.finish_reason is FinishReason.STOP
    tokens = _told_of(generation)
    logprobs = () if tokens is None else await asyncio.to_thread(tokens.whole, ended.response, ended.logprobs)
    output = answers.whole_output(
        generation.id, ended.response, generation.answer_parser(), complete=complete, logprobs=logprobs
    )
    usage = ended.usage
    body = head.ended(output, usage.prompt_tokens, usage.completion_tokens, ended.finish_reason)
    return json_response(body, headers=record_header(ended.record))


def _told_of(generation: Generation) -> answers.TokensTold | None:
    """What forms log-probabilities, where they were asked for."""
    if not generation.wants_logprobs:
        return None
    return answers.TokensTold(generation.tokenizer, generation.answer_parser())
