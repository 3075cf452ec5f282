"""The walk of one embedding from the durable intent to the durable outcome: the vectors are made between.

What the vault keeps of it: the texts and their tokens as a prompt, and as the answer the digest of the vectors, so that
they can be made again and compared. Knows nothing of HTTP. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import struct
from collections.abc import Sequence

from minivault.embedding import Embedded
from minivault.engine.embedding import EmbeddingJob
from minivault.errors import MiniVaultError
from minivault.generation import FinishReason, RecordRef
from minivault.service.calls import Calls
from minivault.service.deadline import abort_after, remaining
from minivault.service.texts import PreparedTexts
from minivault.telemetry.logging import describe_error, get_logger
from minivault.vault.record import Outcome, Receipt

logger = get_logger(__name__)


class Embedding:
    """Once its intent is :meth:`recorded`, await :meth:`result` once, and call :meth:`close` in any case."""

    intent: RecordRef

    def __init__(self, calls: Calls, prepared: PreparedTexts) -> None:
        self._calls = calls
        self._prepared = prepared
        self._job: EmbeddingJob | None = None
        self._abandoned = False
        self._abort: MiniVaultError | None = None
        self._outcome: asyncio.Future[Receipt] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._total_ns = 0
        self.id = prepared.request.request_id

    def run_ahead(self) -> None:
        """Nothing: vectors are made when they are asked for, by :meth:`result`."""

    def recorded(self, intent: Receipt) -> None:
        self.intent = RecordRef(intent.index, intent.leaf)
        self.id = intent.call_id or self.id

    def give_up(self) -> None:
        """Nothing ran."""

    async def result(self) -> Embedded | None:
        """The vectors, once the outcome is durable; ``None`` if the caller left meanwhile.

        Raises:
            EngineFailed: the engine broke.
            DeadlineExceeded: it took longer than it may.
            Draining: the server shut down before the end.
            LedgerUnavailable: the outcome could not be made durable, so there is no answer.
        """
        prepared = self._prepared
        made = await self._vectors()
        if made is None:
            return None
        digest = digest_of(made)
        width = prepared.model.embedder.embedding.width
        said = json.dumps({"vectors": len(made), "width": width, "digest": digest})
        receipt = await asyncio.shield(self._record(FinishReason.STOP, said, None))
        kept, vectors = prepared.request.dimensions, made
        if kept is not None and kept != width:
            vectors = await asyncio.to_thread(lambda: tuple(shortened(one, kept) for one in made))
        return Embedded(
            id=self.id,
            model=prepared.model.name,
            vectors=vectors,
            width=kept or width,
            prompt_tokens=prepared.prompt_tokens,
            record=RecordRef(receipt.index, receipt.leaf),
            generated_at=self._calls.utc_now(),
            total_ns=self._total_ns,
            digest=digest,
        )

    async def _vectors(self) -> tuple[bytes, ...] | None:
        """What the engine makes; where it makes none, that is on record when this returns ``None`` or raises."""
        prepared = self._prepared
        try:
            fairness = prepared.caller.fairness_key
            self._job = prepared.model.embedder.embed(prepared.texts, fairness_key=fairness)
            self._set_deadline()
            vectors = await self._job.vectors()
        except MiniVaultError as error:
            await self._not_embedded(error)
            return None
        except Exception as error:
            logger.error("embedding failed", **describe_error(error))  # noqa: TRY400 - a traceback may hold input
            await asyncio.shield(self._record(FinishReason.FAILED, "", "internal error"))
            raise
        if self._abort is not None:
            await self._not_embedded(self._abort)
            return None
        return vectors

    def _set_deadline(self) -> None:
        limit = self._prepared.limit
        left = remaining(limit, self._prepared.begun_ns, self._calls.now_ns())
        if limit is not None and left is not None:
            self._deadline = abort_after(self, limit, left)

    async def _not_embedded(self, error: MiniVaultError) -> None:
        error = self._abort or error
        reason = FinishReason.CANCELLED if self._abandoned and self._abort is None else FinishReason.FAILED
        await asyncio.shield(self._record(reason, "", None if reason is FinishReason.CANCELLED else error.message))
        if reason is FinishReason.FAILED:
            raise error

    def abandon(self) -> None:
        """The caller is gone: leave out what has not begun. Idempotent."""
        self._abandoned = True
        self._stop()

    def abort(self, error: MiniVaultError) -> None:
        """This side must stop: :meth:`result` raises ``error`` once the outcome is durable."""
        self._abort = self._abort or error
        self._stop()

    def close(self) -> None:
        """Record a call that nobody waits for any more as cancelled. Does nothing when the outcome is on its way."""
        if self._outcome is None:
            self._stop()
            self._record(FinishReason.CANCELLED, "", None)

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _record(self, reason: FinishReason, said: str, error: str | None) -> asyncio.Future[Receipt]:
        if self._outcome is not None:
            return self._outcome
        if self._deadline is not None:
            self._deadline.cancel()
        prepared = self._prepared
        self._total_ns = self._calls.now_ns() - prepared.begun_ns
        outcome = Outcome(
            intent_index=self.intent.index,
            finish_reason=reason.value,
            response_text=said,
            response_token_ids=(),
            prompt_tokens=prepared.prompt_tokens,
            completion_tokens=0,
            timings={"queue_ns": 0, "total_ns": self._total_ns},
            error=error,
        )
        self._outcome = self._calls.append_outcome(self, prepared, outcome)
        return self._outcome


def digest_of(vectors: Sequence[bytes]) -> str:
    """``sha256:...`` over all vectors, one after the other."""
    return "sha256:" + hashlib.sha256(b"".join(vectors)).hexdigest()


def shortened(vector: bytes, dimensions: int) -> bytes:
    """The first ``dimensions`` numbers, scaled to length 1 (in double precision; a vector of zeros stays)."""
    values = struct.unpack(f"<{dimensions}f", vector[: 4 * dimensions])
    length = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))
