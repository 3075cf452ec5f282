"""The batches of the OpenAI surface: ``/v1/batches``. Many requests in a file, run when there is time.

Parses once, hands on, writes the answer. Knows nothing of how lines are run, or of how batches are kept.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from minivault.api import schema
from minivault.api.files import batching_of
from minivault.api.native import caller_of, json_response, parsed
from minivault.api.wire import batches as wire
from minivault.batches.store import new_id
from minivault.batches.values import Batch
from minivault.errors import InvalidRequest, UnknownRecord

router = APIRouter(prefix="/v1/batches", tags=["openai"])

BatchId = Annotated[str, Path(max_length=200, description="`batch_` and more.")]


@router.post(
    "",
    summary="Run many requests",
    responses={
        200: schema.json_answer(wire.BatchBody, "The batch, which has begun."),
        **schema.error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=schema.json_body(wire.NewBatchBody),
)
async def create(request: Request) -> Response:
    """Runs each line of the file as a request to `endpoint`, behind live work and through restarts of the server.

    429 while 20 batches of the key have not ended."""
    body, _ = await parsed(request, wire.NewBatchBody)
    batching = batching_of(request)
    caller = caller_of(request)
    store = await batching.store()
    try:
        file = await asyncio.to_thread(store.file, body.input_file_id, caller.owner)
    except UnknownRecord:
        raise UnknownRecord("input_file_id: there is no such file", param="input_file_id") from None
    if file.purpose != "batch":
        raise InvalidRequest("input_file_id: the file's purpose must be batch", param="input_file_id")
    batch = Batch(
        id=new_id("batch"),
        owner=caller.api_key_id,
        address=caller.address,
        endpoint=body.endpoint,
        input_file_id=file.id,
        created_at=batching.now(),
        metadata=body.metadata,
        concurrency=body.concurrency,
        output_seconds=None if body.output_expires_after is None else body.output_expires_after.seconds,
    )
    await batching.submit(batch, file.bytes)
    return json_response(wire.batch_body(batch))


@router.get(
    "",
    summary="The batches",
    responses={
        200: schema.json_answer(wire.BatchListBody, "The batches."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def batches(
    request: Request,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Those of the key that asks, newest first. 404 where there is nothing of the id `after`."""
    store = await batching_of(request).store()
    owner = caller_of(request).owner
    found = await asyncio.to_thread(lambda: store.batches(owner, after=after, limit=limit + 1))
    return json_response(wire.page([wire.batch_body(batch) for batch in found], limit))


@router.get(
    "/{batch_id}",
    summary="One batch",
    responses={
        200: schema.json_answer(wire.BatchBody, "The batch."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def batch(request: Request, batch_id: BatchId) -> Response:
    """How far it is; once it has ended, its files."""
    return json_response(wire.batch_body(await _found(request, batch_id)))


@router.post(
    "/{batch_id}/cancel",
    summary="Stop a batch",
    responses={
        200: schema.json_answer(wire.BatchBody, "The batch, which is ending."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def cancel(request: Request, batch_id: BatchId) -> Response:
    """Lines that run come to their ends; what is done is in its files. 422 for one that has ended."""
    found = await _found(request, batch_id)
    return json_response(wire.batch_body(await batching_of(request).cancel(found)))


async def _found(request: Request, batch_id: str) -> Batch:
    store = await batching_of(request).store()
    return await asyncio.to_thread(store.batch, batch_id, caller_of(request).owner)
