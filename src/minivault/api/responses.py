"""The Responses part of the OpenAI surface: ``/v1/responses``. What was said before comes from the vault.

Parses once, asks the service, writes the answer. Knows nothing of engines, or of how records are kept.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError

from minivault.api import schema, streaming
from minivault.api.again import parser_of
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, parsed, record_header
from minivault.api.wire import responses_answers as answers
from minivault.api.wire.lenient import whole_said
from minivault.api.wire.responses import ID_PREFIX, SURFACE, ResponsesRequest
from minivault.errors import InvalidRequest, UnknownRecord
from minivault.generation import FinishReason, Message
from minivault.models.tool_calls import ToolCallParser
from minivault.service import EarlierCall, Generation

MAX_EARLIER = 128
"""Responses that one may go back over."""
MAX_EARLIER_BYTES = 8 << 20
"""Of their requests and answers together."""

_NO_SUCH = "no such response in the vault, or nothing is kept of it"

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
    earlier = await _earlier_turns(request, body.previous_response_id)
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw, earlier=earlier)
    generation = await streaming.unless_gone(request, service_of(request).open(asked, caller_of(request)))
    created = int(datetime.fromisoformat(service_of(request).utc_now()).timestamp())
    head = answers.ResponseHead(ID_PREFIX + generation.id, created, generation.model, body)
    if asked.stream:
        framing = answers.ResponseFraming(head, generation.id, generation.answer_parser())
        return streaming.GenerationStream(generation, framing, record_header(generation.intent))
    return await _whole(request, generation, head)


@router.get(
    "/{response_id}",
    summary="An earlier response",
    responses={
        200: schema.json_answer(answers.ResponseBody, "The response."),
        **schema.error_responses(403, 404, 422, 429, 500),
    },
)
async def retrieve(request: Request, response_id: ResponseId) -> Response:
    """From the vault. 404 if there is none, it did not end, or its content was erased or not stored."""
    call = await _call(request, response_id)
    return await asyncio.to_thread(_retrieved, call)


def _retrieved(call: EarlierCall) -> Response:
    body = _body_of(call)
    complete = call.finish_reason is FinishReason.STOP
    output = answers.whole_output(call.id, call.response, _parser(call, body), complete=complete)
    head = answers.ResponseHead(ID_PREFIX + call.id, call.time_ns // 1_000_000_000, call.model, body)
    return json_response(head.ended(output, call.prompt_tokens, call.completion_tokens, complete=complete))


@router.delete(
    "/{response_id}",
    summary="Erase an earlier response",
    responses={
        200: schema.json_answer(answers.DeletedResponseBody, "Its content is gone."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def delete(request: Request, response_id: ResponseId) -> Response:
    """Erases its content from the vault; that it was, and what it depended on, stays provable."""
    call = await _call(request, response_id)
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
    output = answers.whole_output(generation.id, ended.response, generation.answer_parser(), complete=complete)
    usage = ended.usage
    body = head.ended(output, usage.prompt_tokens, usage.completion_tokens, complete=complete)
    return json_response(body, headers=record_header(ended.record))


async def _earlier_turns(request: Request, response_id: str | None) -> list[Message]:
    """The turns of the responses that ``response_id`` went on from, and its own, oldest first."""
    found: list[tuple[Message, ...]] = []
    room = MAX_EARLIER_BYTES
    while response_id is not None:
        if len(found) == MAX_EARLIER:
            raise _too_far_back(f"at most {MAX_EARLIER} responses can be gone back over")
        call = await _call(request, response_id, param="previous_response_id")
        room -= len(call.body) + len(call.response.encode())
        if room < 0:
            raise _too_far_back(f"the responses gone back over may have {MAX_EARLIER_BYTES} bytes together")
        turns, response_id = await asyncio.to_thread(_turns_of, call)
        found.append(turns)
    return [turn for turns in reversed(found) for turn in turns]


def _turns_of(call: EarlierCall) -> tuple[tuple[Message, ...], str | None]:
    """The turns of one response, and which it went on from. Blocking: a body may be long."""
    body = _body_of(call)
    return (*body.turns, _answer_turn(call, body)), body.previous_response_id


def _too_far_back(message: str) -> InvalidRequest:
    return InvalidRequest(f"previous_response_id: {message}", param="previous_response_id")


def _answer_turn(call: EarlierCall, body: ResponsesRequest) -> Message:
    said = whole_said(call.response, _parser(call, body))
    return Message("assistant", said.text, tool_calls=said.calls, thinking=said.thinking)


async def _call(request: Request, response_id: str, param: str | None = None) -> EarlierCall:
    if response_id.startswith(ID_PREFIX):
        try:
            return await service_of(request).records.earlier(
                response_id.removeprefix(ID_PREFIX), SURFACE, owner=caller_of(request).owner
            )
        except UnknownRecord:
            raise UnknownRecord(_NO_SUCH, param=param) from None
    raise UnknownRecord(_NO_SUCH, param=param)


def _body_of(call: EarlierCall) -> ResponsesRequest:
    """What was asked then. A later version may no longer read it, and then there is nothing to go on from."""
    try:
        return ResponsesRequest.model_validate(json.loads(call.body))
    except (ValidationError, ValueError):
        raise UnknownRecord("this version cannot read that response any more") from None


def _parser(call: EarlierCall, body: ResponsesRequest) -> ToolCallParser | None:
    return parser_of(call, body.offered, several=body.parallel_tool_calls is not False)
