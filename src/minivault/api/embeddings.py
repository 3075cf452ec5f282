"""Embeddings: ``POST /embed``, OpenAI's ``/v1/embeddings``, Ollama's ``/api/embed`` and its older ``/api/embeddings``.

Parses once, asks the service, writes the answer. Knows nothing of engines or of the vault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from minivault.api import schema, streaming
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, parsed, record_header
from minivault.api.query import only_known
from minivault.api.wire import embeddings as wire
from minivault.api.wire.ollama import ErrorText, tagged
from minivault.embedding import Embedded, EmbeddingRequest
from minivault.models.naming import untagged

_ANSWERED = (400, 403, 404, 413, 415, 422, 429, 500, 503)

router = APIRouter()


def _answer(model: type[BaseModel], errors: type[BaseModel] | None = None) -> dict[int | str, dict[str, Any]]:
    ok = schema.json_answer(model, "The vectors, in the order of the texts.")
    refused = schema.error_responses(*_ANSWERED, **({} if errors is None else {"body": errors}))
    return {200: ok, **refused}


@router.post(
    "/embed",
    summary="A vector for each text",
    tags=["embeddings"],
    dependencies=[Depends(only_known)],
    responses=_answer(wire.EmbedResponse),
    openapi_extra=schema.json_body(wire.EmbedRequest),
)
async def embed(request: Request) -> Response:
    """Recorded like any other call: the texts, and the digest of the vectors."""
    body, raw = await parsed(request, wire.EmbedRequest)
    asked = body.to_embedding(request_id=request.state.request_id, raw_request=raw)
    return await _run(request, asked, wire.native_answer)


@router.post(
    "/v1/embeddings",
    summary="A vector for each text",
    tags=["openai"],
    responses=_answer(wire.EmbeddingsBody),
    openapi_extra=schema.json_body(wire.EmbeddingsRequest),
)
async def openai_embeddings(request: Request) -> Response:
    """As OpenAI's, for any of its clients. A text that is longer than the model takes is refused."""
    body, raw = await parsed(request, wire.EmbeddingsRequest)
    asked = body.to_embedding(request_id=request.state.request_id, raw_request=raw)
    as_base64 = body.encoding_format == "base64"
    return await _run(request, asked, lambda embedded: wire.openai_answer(embedded, as_base64=as_base64))


@router.post(
    "/api/embed",
    summary="A vector for each text",
    tags=["ollama"],
    responses=_answer(wire.OllamaVectorsBody, ErrorText),
    openapi_extra=schema.json_body(wire.OllamaEmbedBody),
)
async def ollama_embed(request: Request) -> Response:
    """Texts that are too long are cut unless `"truncate": false`. Without texts, the model is only made ready."""
    body, raw = await parsed(request, wire.OllamaEmbedBody)
    asked = body.to_embedding(request_id=request.state.request_id, raw_request=raw)
    if body.asks_nothing:
        await _made_ready(request, asked)
        return json_response({"model": tagged(body.model), "embeddings": []})
    return await _run(request, asked, lambda embedded: wire.ollama_answer(embedded, body.model))


@router.post(
    "/api/embeddings",
    summary="A vector for one text, as older clients ask for it",
    tags=["ollama"],
    responses=_answer(wire.OllamaVectorBody, ErrorText),
    openapi_extra=schema.json_body(wire.OllamaEmbeddingsBody),
)
async def ollama_embeddings(request: Request) -> Response:
    """As `/api/embed` for one text."""
    body, raw = await parsed(request, wire.OllamaEmbeddingsBody)
    asked = body.to_embedding(request_id=request.state.request_id, raw_request=raw)
    if body.asks_nothing:
        await _made_ready(request, asked)
        return json_response({"embedding": []})
    return await _run(request, asked, lambda embedded: {"embedding": wire.numbers(embedded.vectors[0])})


async def _made_ready(request: Request, asked: EmbeddingRequest) -> None:
    caller, name = caller_of(request), untagged(asked.model or "")
    caller.require_model(name)
    work = service_of(request).load_model(name, caller.stay(asked.keep_alive))
    await streaming.unless_gone(request, work)


async def _run(request: Request, asked: EmbeddingRequest, body_of: Callable[[Embedded], dict[str, Any]]) -> Response:
    opening = service_of(request).open_embedding(asked, caller_of(request))
    opened = await streaming.unless_gone(request, opening)
    try:
        async with streaming.cancelled_by_disconnect(request.receive, opened):
            embedded = await opened.result()
    finally:
        opened.close()
    if embedded is None:
        return Response(status_code=499)  # nobody is there to read it
    headers = record_header(embedded.record)
    # Off the event loop: a full request has millions of digits to write.
    return await asyncio.to_thread(lambda: json_response(body_of(embedded), headers=headers))
