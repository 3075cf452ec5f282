"""Rows of the database as batches and files, and back. Knows nothing of when they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from minivault.batches.database import Connection
from minivault.batches.values import Batch, Counts, Fault, IllegalStep, Status

SELECT_BATCH = (
    "SELECT id, owner, address, endpoint, input_file_id, created_at, status, metadata, concurrency, times, faults,"
    " output_file_id, error_file_id, output_seconds, usage, total, completed, failed FROM batches"
)
INSERT_BATCH = (
    "INSERT INTO batches (id, owner, address, endpoint, input_file_id, created_at, status, metadata, concurrency,"
    " times, faults, output_file_id, error_file_id, output_seconds)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE = (
    "UPDATE batches SET owner = ?2, address = ?3, endpoint = ?4, input_file_id = ?5, created_at = ?6, status = ?7,"
    " metadata = ?8, concurrency = ?9, times = ?10, faults = ?11, output_file_id = ?12, error_file_id = ?13,"
    " output_seconds = ?14 WHERE id = ?1 AND status = ?15 RETURNING id"
)


def step_row(db: Connection, was: Batch, becomes: Batch) -> Batch:
    """
    Raises:
        IllegalStep: it is no longer what it was.
    """
    if db.execute(_UPDATE, (*row_of(becomes), was.status.value)).fetchone() is None:
        raise IllegalStep(f"a batch that was {was.status} is so no longer")
    return becomes


def row_of(batch: Batch) -> tuple[Any, ...]:
    return (
        batch.id,
        batch.owner,
        batch.address,
        batch.endpoint,
        batch.input_file_id,
        batch.created_at,
        batch.status.value,
        None if batch.metadata is None else json.dumps(dict(batch.metadata)),
        batch.concurrency,
        json.dumps(dict(batch.times)),
        json.dumps([fault.as_dict() for fault in batch.faults]),
        batch.output_file_id,
        batch.error_file_id,
        batch.output_seconds,
    )


def batch_of(row: Sequence[Any]) -> Batch:
    (batch_id, owner, address, endpoint, input_file_id, created_at, status, metadata, concurrency, times, faults,
     output, error, output_seconds, usage, *counts) = row  # fmt: skip
    return Batch(
        id=batch_id,
        owner=owner,
        address=address,
        endpoint=endpoint,
        input_file_id=input_file_id,
        created_at=created_at,
        status=Status(status),
        metadata=None if metadata is None else json.loads(metadata),
        concurrency=concurrency,
        times=json.loads(times),
        faults=tuple(Fault(**fault) for fault in json.loads(faults)),
        output_file_id=output,
        error_file_id=error,
        counts=Counts(*counts),
        output_seconds=output_seconds,
        usage=None if usage is None else json.loads(usage),
    )
