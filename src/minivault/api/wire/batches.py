"""What files and batches of the OpenAI surface look like, and what makes a batch.

Knows nothing of HTTP or of how they are kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from minivault.api.wire.lenient import LenientBody
from minivault.api.wire.native import CACHE_UNTOLD, REASONING_UNTOLD
from minivault.api.wire.strict import at_most
from minivault.batches.values import WINDOW_SECONDS, Batch, Status, StoredFile

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
MAX_METADATA = 16
MIN_SECONDS = 3600
MAX_SECONDS = 30 * 86_400
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
EndpointName = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]


class ExpiresAfterBody(LenientBody):
    """How long files stay."""

    anchor: Literal["created_at"] = Field(description="When a file was made.")
    seconds: int = Field(ge=MIN_SECONDS, le=MAX_SECONDS, description="From then on.")


class NewBatchBody(LenientBody):
    """What `POST /v1/batches` takes."""

    input_file_id: str = Field(min_length=1, max_length=200, description="A file with a request a line.")
    endpoint: EndpointName = Field(description="What each line asks.")
    completion_window: Literal["24h"] = Field(description="What is not done by then is not done.")
    metadata: (
        Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA), at_most(MAX_METADATA)] | None
    ) = Field(None, description="Given back as it is.")
    output_expires_after: ExpiresAfterBody | None = Field(
        None, description="How long its output and error files stay; else until they are deleted."
    )
    concurrency: int | None = Field(
        None, ge=1, le=1024, description="Of this server alone: lines that run together, as far as it lets."
    )


class FileBody(BaseModel):
    """A file of this server."""

    id: str
    object: Literal["file"]
    bytes: int = Field(ge=0)
    created_at: int = Field(ge=0)
    expires_at: int | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    status_details: str | None


class FileListBody(BaseModel):
    object: Literal["list"]
    data: list[FileBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFileBody(BaseModel):
    id: str
    object: Literal["file"]
    deleted: bool


class BatchFaultBody(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchFaultsBody(BaseModel):
    object: Literal["list"]
    data: list[BatchFaultBody]


class RequestCountsBody(BaseModel):
    total: int = Field(ge=0)
    completed: int = Field(ge=0)
    failed: int = Field(ge=0)


class CachedTokensBody(BaseModel):
    cached_tokens: Literal[0] = Field(description=CACHE_UNTOLD)


class ReasoningTokensBody(BaseModel):
    reasoning_tokens: Literal[0] = Field(description=REASONING_UNTOLD)


class UsageBody(BaseModel):
    """The tokens of all answers of a batch."""

    input_tokens: int = Field(ge=0)
    input_tokens_details: CachedTokensBody
    output_tokens: int = Field(ge=0)
    output_tokens_details: ReasoningTokensBody
    total_tokens: int = Field(ge=0)


class BatchBody(BaseModel):
    """A batch and how far it is. Times are seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaultsBody | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCountsBody
    model: str | None = Field(description="At its end: that answered, or one of those that did.")
    usage: UsageBody | None = Field(description="At its end.")
    metadata: dict[str, str] | None


class BatchListBody(BaseModel):
    object: Literal["list"]
    data: list[BatchBody]
    has_more: bool
    first_id: str | None
    last_id: str | None


def file_body(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_body(batch: Batch) -> dict[str, Any]:
    errors = {"object": "list", "data": [fault.as_dict() for fault in batch.faults]} if batch.faults else None
    counts = batch.counts
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": f"{WINDOW_SECONDS // 3600}h",
        "status": batch.status.value,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{f"{name}_at": batch.times.get(name) for name in _TIMES},
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        **_used(batch),
        "metadata": None if batch.metadata is None else dict(batch.metadata),
    }


def _used(batch: Batch) -> dict[str, Any]:
    used = batch.usage
    if used is None:
        return {"model": None, "usage": None}
    usage = {
        "input_tokens": used["input_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": used["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used["input_tokens"] + used["output_tokens"],
    }
    return {"model": used["model"], "usage": usage}


def page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A list answer of at most ``limit`` of ``items``."""
    shown = items[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(items) > limit,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
