"""The files of the OpenAI surface: ``/v1/files``. They hold what batches ask and answer.

Parses once, asks the store, writes the answer. Knows nothing of how files are kept, or of what is in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from minivault.api import schema
from minivault.api.batching import Batching
from minivault.api.native import caller_of, json_response
from minivault.api.room import Share
from minivault.api.upload import declared_bytes, read_form
from minivault.api.wire import batches as wire
from minivault.batches.store import BatchStore
from minivault.batches.values import StoredFile
from minivault.errors import InvalidRequest

router = APIRouter(prefix="/v1/files", tags=["openai"])

FileId = Annotated[str, Path(max_length=200, description="`file-` and more.")]
_CONTENT = "application/octet-stream"
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "JSON lines."},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": wire.MIN_SECONDS,
                            "maximum": wire.MAX_SECONDS,
                            "description": "How long it stays; without it, until it is deleted.",
                        },
                    },
                }
            }
        },
    }
}


def batching_of(request: Request) -> Batching:
    batching: Batching = request.app.state.batching
    return batching


@router.post(
    "",
    summary="Upload a file",
    responses={
        200: schema.json_answer(wire.FileBody, "The file."),
        **schema.error_responses(400, 403, 413, 415, 422, 429, 500, 503),
    },
    openapi_extra=_FORM,
)
async def upload(request: Request) -> Response:
    """A form with `purpose` (`batch`) and `file`: a request a line, as OpenAI's batches have them."""
    batching = batching_of(request)
    most = batching.bounds.max_file_bytes
    declared = declared_bytes(request, most)
    store = await batching.store()
    async with batching.room.upload(caller_of(request).fairness_key, store.stored_bytes, declared) as share:
        return json_response(wire.file_body(await _uploaded(request, store, share, most)))


async def _uploaded(request: Request, store: BatchStore, share: Share, most: int) -> StoredFile:
    """The file of the form, which holds its room as it comes; what ends early leaves nothing."""
    now = batching_of(request).now()
    file_id = await asyncio.to_thread(store.begin_file, caller_of(request).api_key_id, now)

    async def take(data: bytes) -> None:
        share.take(len(data))
        await asyncio.to_thread(store.append, file_id, data)

    try:
        form = await read_form(request, most, take)
        if form.fields.get("purpose") != "batch":
            raise InvalidRequest("purpose must be batch", param="purpose")
        seconds = _expires_after(form.fields)
        await share.keep(lambda: store.finish_file(file_id, form.filename, "batch", seconds).bytes)
        return await asyncio.to_thread(store.file, file_id)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(store.drop_file, file_id))
        raise


def _expires_after(fields: Mapping[str, str]) -> int | None:
    """How many seconds the file stays, as OpenAI's clients say it in a form.

    Raises:
        InvalidRequest: they are out of bounds, or from no time that is known.
    """
    anchor, said = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and said is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("expires_after.anchor: must be created_at", param="expires_after.anchor")
    seconds = int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 10 else 0
    if not wire.MIN_SECONDS <= seconds <= wire.MAX_SECONDS:
        raise InvalidRequest(
            f"expires_after.seconds: must be an integer from {wire.MIN_SECONDS} to {wire.MAX_SECONDS}",
            param="expires_after.seconds",
        )
    return seconds


@router.get(
    "",
    summary="The files",
    responses={
        200: schema.json_answer(wire.FileListBody, "The files."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def files(
    request: Request,
    purpose: Annotated[Literal["batch", "batch_output"] | None, Query()] = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="By the time at which they were made.")] = "desc",
) -> Response:
    """Those of the key that asks. 404 where there is nothing of the id `after`."""
    store = await batching_of(request).store()
    owner = caller_of(request).owner
    oldest = order == "asc"
    found = await asyncio.to_thread(
        lambda: store.files(owner, purpose=purpose, after=after, limit=limit + 1, oldest_first=oldest)
    )
    return json_response(wire.page([wire.file_body(file) for file in found], limit))


@router.get(
    "/{file_id}",
    summary="One file",
    responses={
        200: schema.json_answer(wire.FileBody, "The file."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def file(request: Request, file_id: FileId) -> Response:
    """What is known of it, without its content."""
    store = await batching_of(request).store()
    return json_response(wire.file_body(await asyncio.to_thread(store.file, file_id, caller_of(request).owner)))


@router.get(
    "/{file_id}/content",
    summary="The content of a file",
    responses={
        200: {
            "description": "Its bytes.",
            "content": {_CONTENT: {"schema": {"type": "string", "format": "binary"}}},
        },
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def content(request: Request, file_id: FileId) -> Response:
    """As it was uploaded, or as a batch wrote it; 503 while what was erased is taken out of it."""
    store = await batching_of(request).store()
    found = await asyncio.to_thread(store.file, file_id, caller_of(request).owner)
    pieces = await asyncio.to_thread(store.content, file_id)
    headers = {"content-length": str(found.bytes), "content-disposition": "attachment"}
    return StreamingResponse(_streamed(pieces), headers=headers, media_type=_CONTENT)


@router.delete(
    "/{file_id}",
    summary="Delete a file",
    responses={
        200: schema.json_answer(wire.DeletedFileBody, "It is gone."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def delete(request: Request, file_id: FileId) -> Response:
    """422 while a batch that has not ended needs it."""
    store = await batching_of(request).store()
    await asyncio.to_thread(store.delete_file, file_id, caller_of(request).owner)
    return json_response({"id": file_id, "object": "file", "deleted": True})


async def _streamed(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
