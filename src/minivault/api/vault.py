"""The vault over HTTP: list, read, export, prove, erase, statistics, replay. Knows nothing of how records are kept.

A caller whose key sees its own records alone gets those alone, on every path.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from minivault.access.keys import KeyStore
from minivault.access.roles import Permission
from minivault.api import schema
from minivault.api.health import service_of
from minivault.api.native import caller_of, json_response, record_header
from minivault.api.query import only_known
from minivault.api.streaming import unless_gone
from minivault.api.wire.native import RecordBody, UsageBody

MAX_DURATION_MS = 1e9

router = APIRouter(prefix="/vault", tags=["vault"], dependencies=[Depends(only_known)])


class CallBody(BaseModel):
    """One recorded call. `prompt` and `response` are null where content was not stored, or is erased."""

    model_config = ConfigDict(extra="allow")

    index: int
    outcome_index: int | None
    id: str
    timestamp: str
    model: str
    surface: str
    source: str
    api_key_id: str | None
    mode: str
    store: bool
    finish_reason: str | None
    usage: UsageBody
    processing_time_ms: float | None
    prompt: str | None
    response: str | None
    erased_index: int | None = Field(description="The record that says that the content was erased.")
    altered: bool = Field(
        default=False,
        description="True where a record or content of the call was altered in the vault's file: then this is not what "
        "was recorded. Lists name it only there.",
    )


class CallsBody(BaseModel):
    records: list[CallBody]
    next_cursor: str | None = Field(description="Ask for the next page with it; null at the end.")


class CallDetailBody(CallBody):
    """A call with its tokens, its parameters and what it depended on."""

    prompt_token_ids: list[int] | None
    response_token_ids: list[int] | None
    commitments: dict[str, str] = Field(description="By kind of content, as the two leaves hold them: 64 hex digits.")
    salts: dict[str, str] | None = Field(description="Of the commitments, 64 hex digits; null where none is kept.")
    constraints: str | None = Field(
        description="JSON, as committed to: the parameters that the caller wrote as text, tokens or structure, by "
        "name; null where there are none, or they were not stored or are erased."
    )
    intent: RecordBody
    record: RecordBody | None
    pin: dict[str, Any]
    parameters: dict[str, Any] = Field(
        description="All that were in effect. Under `constraints` those are named that go when the content is erased; "
        "each is null then."
    )
    ignored: list[str]
    timings: dict[str, int] | None
    error: str | None
    altered: bool = Field(
        description="True where a record or content of the call was altered in the vault's file: then this is not what "
        "was recorded. Content that is erased or was not stored is not altered."
    )


class PercentilesBody(BaseModel):
    """Milliseconds; null without a call that ended."""

    p50: float | None
    p95: float | None
    p99: float | None


class CountsBody(BaseModel):
    calls: int
    open_calls: int
    prompt_tokens: int
    completion_tokens: int
    processing_time_ms: PercentilesBody


class DayBody(CountsBody):
    day: str = Field(description="UTC.")


class ModelCountsBody(CountsBody):
    model: str


class KeyBody(CountsBody):
    api_key_id: str | None = Field(description="Null: calls without a key.")


class VaultStatsBody(CountsBody):
    """Totals over the calls that fit, and the same by day, model and key."""

    first: str | None
    last: str | None
    models: dict[str, int] = Field(description="Calls of each.")
    finish_reasons: dict[str, int]
    days: dict[str, int]
    by_day: list[DayBody]
    by_model: list[ModelCountsBody]
    by_key: list[KeyBody]


class ErasedBody(BaseModel):
    """What was erased, and the record that says so: null if nothing was left to erase."""

    erased: list[int] = Field(description="The calls, by the indexes of their intents, with `copies`.")
    copies: list[int] = Field(description="Of these, the replays and repeats of the calls asked for.")
    record: RecordBody | None
    more: bool = Field(description="Ask again: calls that fit may be left.")


class ReplayBody(BaseModel):
    """What a replay found. MISMATCH names the first position that differs, or gives the reason where the record itself
    was altered and nothing was run; NOT COMPARABLE gives the reason."""

    verdict: Literal["MATCH", "MISMATCH", "NOT COMPARABLE"]
    reason: str | None
    position: int | None
    expected_token_id: int | None
    actual_token_id: int | None
    compared_tokens: int
    record: RecordBody | None = Field(description="The record of the replay itself.")


RecordId = Annotated[
    str, Path(min_length=1, max_length=160, description="Id of the call, or index of either of its records.")
]
Text = Annotated[str | None, Query(min_length=1, max_length=1000)]
Name = Annotated[str | None, Query(min_length=1, max_length=200)]
Key = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="The id of a key that records name, or the name of one: of any key for an admin, of their own for "
        "others. 422: there is none of which the asker may know.",
    ),
]
Time = Annotated[
    str | None,
    Query(max_length=40, description="RFC 3339; no offset means UTC.", json_schema_extra={"format": "date-time"}),
]
Reason = Annotated[Literal["stop", "length", "cancelled", "failed", "interrupted", "imported"] | None, Query()]
Surface = Annotated[Literal["native", "openai", "responses", "anthropic", "ollama", "replay", "import"] | None, Query()]
Source = Annotated[
    Literal["http", "cli", "import"] | None,
    Query(description="Who asked: a client of the server, the command line without one, or an import."),
]
Duration = Annotated[
    float | None,
    Query(ge=0, le=MAX_DURATION_MS, description="Of `processing_time_ms`; calls that have not ended do not fit."),
]


async def _key_id(request: Request, word: str | None) -> str | None:
    """The id of the key that a filter means. Names are told to nobody who may not see the keys, but one's own.

    Raises:
        InvalidRequest: the caller may know of no such key, nor see a record that names one of this id.
    """
    if word is None:
        return None
    caller = caller_of(request)
    keys: KeyStore = request.app.state.access.keys
    known = [key for key in keys.list() if caller.may(Permission.KEYS) or key.id == caller.api_key_id]
    return await service_of(request).records.key_id(word, known, owner=caller.owner)


@router.get(
    "/records",
    summary="List recorded calls, newest first",
    responses={
        200: schema.json_answer(CallsBody, "A page of calls."),
        **schema.error_responses(403, 422, 429, 500, 503),
    },
)
async def list_records(
    request: Request,
    query: Text = None,
    model: Name = None,
    key: Key = None,
    surface: Surface = None,
    after: Time = None,
    before: Time = None,
    finish_reason: Reason = None,
    source: Source = None,
    min_duration_ms: Duration = None,
    max_duration_ms: Duration = None,
    cursor: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """`query` holds words that prompt or response must have; words in double quotes must follow each other.

    A page ends after `limit` calls, or before when it holds 16 MiB: go on with `next_cursor` until it is null."""
    page = await service_of(request).records.list(
        query=query,
        model=model,
        key=await _key_id(request, key),
        surface=surface,
        owner=caller_of(request).owner,
        after=after,
        before=before,
        finish_reason=finish_reason,
        source=source,
        min_duration_ms=min_duration_ms,
        max_duration_ms=max_duration_ms,
        cursor=cursor,
        limit=limit,
    )
    return await asyncio.to_thread(json_response, page)


@router.get(
    "/records/{id}",
    summary="One recorded call in full",
    responses={
        200: schema.json_answer(CallDetailBody, "The call."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def get_record(request: Request, id: RecordId) -> Response:
    call = await service_of(request).records.get(id, owner=caller_of(request).owner)
    return await asyncio.to_thread(json_response, call)


def _text_answer(description: str, **headers: str) -> dict[str, Any]:
    described = {name: {"description": said, "schema": {"type": "string"}} for name, said in headers.items()}
    answer: dict[str, Any] = {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return answer | ({"headers": described} if described else {})


@router.get(
    "/head",
    summary="The newest signed head, to be kept elsewhere",
    responses={
        200: _text_answer("A signed head (C2SP).", **{"MiniVault-Key": "The public key that signs: name+id+key."}),
        **schema.error_responses(403, 404, 429, 500, 503),
    },
)
async def head(request: Request) -> Response:
    """Whoever keeps it can show later whether the vault was set back or rewritten."""
    note, key = await service_of(request).records.head()
    return Response(note, media_type="text/plain", headers={"minivault-key": key})


@router.get(
    "/records/{id}/proof",
    summary="The proof that a record is in the vault",
    responses={
        200: _text_answer("A C2SP tlog-proof, with the record's leaf as extra data."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def proof(request: Request, id: RecordId) -> Response:
    """Checked with `minivault vault check-proof`. An index proves that record, an id the outcome of its call.

    If no signed head covers it yet, one is signed.
    """
    return Response(
        await service_of(request).records.proof(id, owner=caller_of(request).owner), media_type="text/plain"
    )


@router.delete(
    "/records/{id}/content",
    summary="Erase what one call said",
    responses={
        200: schema.json_answer(ErasedBody, "It is erased, and that is on record."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def erase(request: Request, id: RecordId) -> Response:
    """Prompt, answer, token ids, constraints and salts go for good; records and proofs stay. 404: nothing is left."""
    caller = caller_of(request)
    return json_response(await service_of(request).records.erase(id, owner=caller.owner, api_key_id=caller.api_key_id))


@router.delete(
    "/contents",
    summary="Erase what many calls said, a batch at a time",
    responses={
        200: schema.json_answer(ErasedBody, "The batch is erased, and that is on record."),
        **schema.error_responses(403, 422, 429, 500, 503),
    },
)
async def erase_all(request: Request, key: Key = None, after: Time = None, before: Time = None) -> Response:
    """Of the calls that fit, the oldest 64 that still hold content. At least one filter is needed."""
    caller = caller_of(request)
    erased = await service_of(request).records.erase_all(
        key=await _key_id(request, key), after=after, before=before, owner=caller.owner, api_key_id=caller.api_key_id
    )
    return json_response(erased)


@router.post(
    "/records/{id}/replay",
    summary="Run a recorded call again and compare its tokens",
    responses={
        200: schema.json_answer(ReplayBody, "The verdict."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def replay(request: Request, id: RecordId) -> Response:
    """Runs the recorded prompt tokens with the recorded parameters and seed. The replay is recorded too."""
    replaying = service_of(request).replay(id, caller_of(request), request_id=request.state.request_id)
    result = await unless_gone(request, replaying)
    record = result.record
    body = {
        "verdict": result.verdict.value,
        "reason": result.reason,
        "position": result.position,
        "expected_token_id": result.expected_token_id,
        "actual_token_id": result.actual_token_id,
        "compared_tokens": result.compared_tokens,
        "record": None if record is None else {"index": record.index, "leaf": record.leaf},
    }
    return json_response(body, headers={} if record is None else record_header(record))


@router.get(
    "/stats",
    summary="Totals of the vault",
    responses={
        200: schema.json_answer(VaultStatsBody, "The totals."),
        **schema.error_responses(403, 422, 429, 500, 503),
    },
)
async def stats(
    request: Request,
    model: Name = None,
    key: Key = None,
    surface: Surface = None,
    after: Time = None,
    before: Time = None,
) -> Response:
    """Calls, tokens and latency, in all and by day, model and key."""
    owner = caller_of(request).owner
    found = await service_of(request).records.statistics(
        owner=owner, model=model, key=await _key_id(request, key), surface=surface, after=after, before=before
    )
    return json_response(found)


_MEDIA_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


@router.get(
    "/export",
    summary="Recorded calls as JSON lines, CSV or Parquet",
    responses={
        200: {
            "description": "The calls that fit, oldest first. Parquet needs the extra `minivault[parquet]`.",
            "content": {
                media_type: {"schema": {"type": "string"} | ({"format": "binary"} if name == "parquet" else {})}
                for name, media_type in _MEDIA_TYPES.items()
            },
        },
        **schema.error_responses(400, 403, 422, 429, 500, 503),
    },
)
async def export(
    request: Request,
    format: Literal["jsonl", "csv", "parquet"] = "jsonl",
    query: Text = None,
    model: Name = None,
    key: Key = None,
    surface: Surface = None,
    after: Time = None,
    before: Time = None,
    finish_reason: Reason = None,
    source: Source = None,
    min_duration_ms: Duration = None,
    max_duration_ms: Duration = None,
) -> Response:
    """Streamed. JSON lines and Parquet have token ids and parameters; what was not stored or is erased is null. Each
    call has `altered`: true where a record or content of it was altered in the vault's file."""
    pieces = await service_of(request).records.export(
        format,
        owner=caller_of(request).owner,
        query=query,
        model=model,
        key=await _key_id(request, key),
        surface=surface,
        after=after,
        before=before,
        finish_reason=finish_reason,
        source=source,
        min_duration_ms=min_duration_ms,
        max_duration_ms=max_duration_ms,
    )
    headers = {"content-disposition": f'attachment; filename="vault.{format}"'}
    return StreamingResponse(pieces, media_type=_MEDIA_TYPES[format], headers=headers)
