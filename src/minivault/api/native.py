"""The native surface: ``POST /generate`` and its two streaming names.

Parses once, asks the service, writes the answer. Knows nothing of engines or of the vault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from minivault.access.caller import Caller
from minivault.api import negotiation, schema, streaming
from minivault.api.body import read_json_object
from minivault.api.problems import Problem, validated
from minivault.api.query import only_known
from minivault.api.wire.native import GenerateRequest, answer_of
from minivault.generation import Completion, FinishReason, RecordRef
from minivault.service import Generation, Service

RECORD_HEADER = "minivault-record"
FROM_HEADER = "minivault-from-record"
TIMEOUT_HEADER = "MiniVault-Timeout"
"""On every surface, for clients whose bodies cannot say it."""
MOST_SECONDS = 86_400
_SECONDS = re.compile(schema.TIMEOUT_PATTERN)

Body = TypeVar("Body", bound=BaseModel)

router = APIRouter(tags=["generate"], dependencies=[Depends(only_known)])


@router.post(
    "/generate",
    summary="Answer a prompt",
    responses=schema.generate_responses(whole=True),
    openapi_extra=schema.json_body(GenerateRequest),
)
async def generate(request: Request) -> Response:
    """Answers as JSON, or in pieces with `"stream": true` or an `Accept` of `text/event-stream`,
    `application/x-ndjson` or `text/plain`. The pieces joined equal the whole answer."""
    body, raw = await parsed(request, GenerateRequest)
    offers = (streaming.JSON, streaming.SSE, streaming.NDJSON, streaming.PLAIN)
    chosen = negotiation.preferred(request.headers.get("accept"), offers[1:] if body.stream else offers)
    framing = chosen or (streaming.SSE if body.stream else streaming.JSON)
    return await _answer(request, body, raw, framing)


@router.post(
    "/generate/stream",
    summary="Answer a prompt in pieces, as JSON lines",
    responses=schema.generate_responses(whole=False),
    openapi_extra=schema.json_body(GenerateRequest),
)
async def generate_stream(request: Request) -> Response:
    """As `/generate` with `"stream": true`; JSON lines unless `Accept` says otherwise."""
    return await _streamed(request, (streaming.NDJSON, streaming.SSE, streaming.PLAIN))


@router.post(
    "/generate-stream",
    summary="Answer a prompt in pieces, as plain text",
    responses=schema.generate_responses(whole=False),
    openapi_extra=schema.json_body(GenerateRequest),
)
async def generate_plain(request: Request) -> Response:
    """As `/generate` with `"stream": true`; plain text unless `Accept` says otherwise."""
    return await _streamed(request, (streaming.PLAIN, streaming.SSE, streaming.NDJSON))


async def _streamed(request: Request, offers: tuple[str, str, str]) -> Response:
    body, raw = await parsed(request, GenerateRequest)
    if body.stream is False:
        raise Problem(
            422,
            "stream: must be true, or left out: this path answers in pieces, and POST /generate at once",
            code="invalid_value",
            param="stream",
        )
    framing = negotiation.preferred(request.headers.get("accept"), offers) or offers[0]
    return await _answer(request, body, raw, framing)


async def _answer(request: Request, body: GenerateRequest, raw: bytes, framing: str) -> Response:
    opening = _opened(request, body, raw, framing)
    if framing == streaming.SSE:
        return await streaming.kept_alive(request, opening, streaming.sse_failure)
    return await opening


async def _opened(request: Request, body: GenerateRequest, raw: bytes, framing: str) -> Response:
    service: Service = request.app.state.service
    stream = framing != streaming.JSON
    asked = body.to_generation(stream=stream, request_id=request.state.request_id, raw_request=raw)
    generation = await streaming.unless_gone(request, service.open(asked, caller_of(request)))
    if stream:
        headers = record_header(generation.intent)
        return streaming.GenerationStream(generation, streaming.framing_for(framing, generation), headers)
    token_bytes = generation.token_bytes if generation.wants_logprobs else None
    return await whole_answer(request, generation, lambda completion: answer_of(completion, token_bytes))


async def parsed(request: Request, model: type[Body], *, may_be_empty: bool = False) -> tuple[Body, bytes]:
    """A body in the form of ``model``, and its bytes as they came. ``may_be_empty``: none at all has the defaults.

    Raises:
        Problem: it cannot be read, or a field is wrong.
    """
    most = request.app.state.settings.max_body_bytes
    value, raw = await read_json_object(request, most, may_be_empty=may_be_empty)
    return validated(model, value), raw


async def whole_answer(
    request: Request,
    generation: Generation,
    body_of: Callable[[Completion], Mapping[str, Any]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Run to the end and answer once, in any surface's form. Raises what :meth:`Generation.result` raises."""
    try:
        async with streaming.cancelled_by_disconnect(request.receive, generation):
            completion = await generation.result()
    finally:
        generation.close()
    if completion.finish_reason is FinishReason.CANCELLED:
        return Response(status_code=499)  # nobody is there to read it
    return json_response(body_of(completion), headers={**record_header(completion.record), **(headers or {})})


def caller_of(request: Request) -> Caller:
    """Who was let in at the entrance, and how long they will wait. What is open to everybody has no caller, and asks
    for none.

    Raises:
        Problem: they say how long in a way that cannot be read.
    """
    caller: Caller = request.state.caller
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return caller
    if not _SECONDS.fullmatch(given):
        raise Problem(
            422,
            f"{TIMEOUT_HEADER} must be a number of seconds above 0 and up to {MOST_SECONDS}, such as 30 or 2.5.",
            code="invalid_value",
            param=TIMEOUT_HEADER,
        )
    return replace(caller, timeout=float(given))


def record_header(record: RecordRef) -> dict[str, str]:
    """``INDEX:LEAF``; of a whole answer its outcome, of a stream its intent. And where the answer was taken from."""
    named = {RECORD_HEADER: f"{record.index}:{record.leaf}"}
    return named if record.from_index is None else named | {FROM_HEADER: str(record.from_index)}


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Response(body, status, headers=dict(headers or {}), media_type=streaming.JSON)
