"""What a file, a batch and a line of it are, and the life of a batch.

Values alone. Knows nothing of how they are kept, of HTTP, or of what the lines ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

WINDOW_SECONDS = 24 * 3600
"""How long a batch may take."""


class Status(StrEnum):
    """Where a batch is in its life."""

    VALIDATING = "validating"
    """Its lines are read."""
    FAILED = "failed"
    """They could not be: nothing was run."""
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    """Every line has its answer; the files are written."""
    COMPLETED = "completed"
    EXPIRED = "expired"
    """Its time was over before all lines were run."""
    CANCELLING = "cancelling"
    """No line is begun any more; those that were end."""
    CANCELLED = "cancelled"


LIFE: Mapping[Status, tuple[Status, ...]] = {
    Status.VALIDATING: (Status.FAILED, Status.IN_PROGRESS, Status.CANCELLING, Status.EXPIRED),
    Status.IN_PROGRESS: (Status.FINALIZING, Status.CANCELLING, Status.EXPIRED),
    Status.FINALIZING: (Status.COMPLETED,),
    Status.CANCELLING: (Status.CANCELLED,),
}
"""What may follow on what; an end is followed by nothing."""
UNFINISHED = tuple(LIFE)


class IllegalStep(Exception):
    """A batch cannot go from where it is to where it was sent."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, all of it there."""

    id: str
    owner: str | None
    """Public id of the key that it belongs to; ``None`` where no keys are asked for."""
    filename: str
    purpose: str
    bytes: int
    created_at: int
    """Seconds since 1970."""
    expires_at: int | None = None
    """When it is deleted, in the same seconds; ``None``: its owner said nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line of an input file is none. ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


@dataclass(frozen=True, slots=True)
class Counts:
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def pending(self) -> int:
        return self.total - self.completed - self.failed


@dataclass(frozen=True, slots=True)
class Batch:
    """Many requests to one endpoint."""

    id: str
    owner: str | None
    address: str
    """Of the client that sent it."""
    endpoint: str
    input_file_id: str
    created_at: int
    status: Status = Status.VALIDATING
    metadata: Mapping[str, str] | None = None
    concurrency: int | None = None
    """Lines that may run at the same time; ``None``: as many as the server lets."""
    times: Mapping[str, int] = field(default_factory=dict)
    """When it became what: ``in_progress`` and so on to seconds since 1970."""
    faults: tuple[Fault, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: Counts = Counts()
    output_seconds: int | None = None
    """How long its output and error files stay; ``None``: its owner said nothing."""
    usage: Mapping[str, Any] | None = None
    """At its end: the model that answered, and the tokens of its answers."""

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_SECONDS

    def become(self, status: Status, now: int) -> Batch:
        """
        Raises:
            IllegalStep: not from where it is.
        """
        if status not in LIFE.get(self.status, ()):
            raise IllegalStep(f"a batch that is {self.status} cannot become {status}")
        return replace(self, status=status, times={**self.times, status.value: now})


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch. ``number`` counts from 0."""

    number: int
    custom_id: str
    body: str
    """JSON."""
    calls: str | None = None
    """It has a draft: a result that counts once these calls are on record so, in the words of who drafted it."""
    ended: bool = False
    """It has its result, as one that was erased has."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a line: a line of the output file, or if it failed of the error file."""

    text: str
    failed: bool
