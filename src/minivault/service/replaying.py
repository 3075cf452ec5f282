"""Runs a recorded call again, through the same walk as any other, and compares what comes.

Whether it can be compared at all is decided in :mod:`minivault.service.replay`. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from minivault.access.caller import Caller
from minivault.errors import InvalidRequest
from minivault.generation import FinishReason, GenerationRequest
from minivault.models import parameters
from minivault.models.structure import Structure
from minivault.service.calls import Calls
from minivault.service.deadline import within
from minivault.service.embeddings import Embeddings
from minivault.service.generations import Generations
from minivault.service.ports import ModelLease, ModelSource, ServedModel, generating
from minivault.service.prepared import Prepared, pin_of
from minivault.service.preparing import constraint_of, reserved
from minivault.service.records import Records
from minivault.service.replay import (
    ALTERED,
    ReplayResult,
    ReplayVerdict,
    compare,
    why_form_not_comparable,
    why_never_comparable,
    why_not_comparable,
    why_too_long,
)
from minivault.service.replay_vectors import (
    compare_vectors,
    is_embedding,
    recorded_request,
    why_vectors_not_comparable,
)
from minivault.service.texts import embedding, embedding_pin
from minivault.vault.reader import CallDetail

_REFUSED = "the form of its answer is refused here"


class Replayer:
    """Replays as a caller asks: admitted, recorded and answered as every other call."""

    def __init__(
        self, models: ModelSource, records: Records, calls: Calls, generations: Generations, embeddings: Embeddings
    ) -> None:
        self._models = models
        self._records = records
        self._calls = calls
        self._generations = generations
        self._embeddings = embeddings

    async def replay(self, record_id: str, caller: Caller, request_id: str) -> ReplayResult:
        """See :meth:`minivault.service.service.Service.replay`."""
        recorded = await self._records.detail(record_id, owner=caller.owner)
        caller.require_model(recorded.call.model)
        if not await self._records.is_sound(recorded.call.index):
            return ReplayResult(ReplayVerdict.MISMATCH, reason=ALTERED)
        reason = why_never_comparable(recorded)
        if reason is not None:
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=reason)
        if is_embedding(recorded):
            return await self._replay_embedding(recorded, caller, request_id)
        found = await self._prepared(recorded, caller, request_id)
        if isinstance(found, str):
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=found)
        prepared = await self._admitted(found)
        generation = await self._generations.begin(prepared)
        try:
            completion = await generation.result()
        except InvalidRequest as refused:  # as a grammar that becomes too complex, which ended the recorded call too
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=f"{_REFUSED}: {refused.message}")
        finally:
            generation.close()
        if completion.finish_reason is FinishReason.CANCELLED:
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason="the replay was cancelled")
        result = compare(recorded.response_token_ids or (), recorded.call.finish_reason or "", generation.token_ids)
        return replace(result, record=completion.record)

    async def _prepared(self, recorded: CallDetail, caller: Caller, request_id: str) -> Prepared | str:
        """The replay, which holds its model from here on, or why it would prove nothing."""
        begun_ns, limit = self._calls.now_ns(), self._calls.limit_for(caller)
        async with within(limit):
            lease = await self._models.acquire(recorded.call.model)
            try:
                model = generating(lease.model)
                reason = why_not_comparable(recorded, pin_of(model)) or why_too_long(recorded, model.engine.info)
                if reason is None and recorded.intent.get("parameters", {}).get("response_format"):
                    reason = await asyncio.to_thread(_why_form_not_comparable, recorded, model)
                if reason is not None:
                    return reason
                found = await self._replay_of(recorded, caller, lease, request_id, begun_ns)
                return found if isinstance(found, str) else replace(found, limit=limit)
            finally:
                lease.release()

    async def _admitted(self, prepared: Prepared) -> Prepared:
        """With a place among what runs and waits, and its tokens taken."""
        try:
            self._calls.admit(prepared.caller)
        except BaseException:
            prepared.lease.release()
            raise
        try:
            prepared = await reserved(prepared)
            return self._generations.in_line(prepared, prepared.limit)
        except BaseException:
            self._calls.give_up(prepared)
            raise

    async def _replay_of(
        self, recorded: CallDetail, caller: Caller, lease: ModelLease, request_id: str, begun_ns: int
    ) -> Prepared | str:
        text = recorded.call.prompt or ""
        asked = recorded.parameters
        model = generating(lease.model)
        try:
            structure = Structure.from_record(asked.get("response_format"))
            _, constraint = await constraint_of(model, structure)
        except InvalidRequest as refused:  # as by rules that are newer than the record
            return f"{_REFUSED}: {refused.message}"
        return Prepared(
            request=GenerationRequest(
                prompt=text, request_id=request_id, surface="replay", store=recorded.call.store, raw=True
            ),
            caller=caller,
            model=model,
            lease=lease.again(),
            prompt_text=text,
            prompt_token_ids=recorded.prompt_token_ids or (),
            sampling=replace(parameters.from_record(asked), logprobs=None),
            begun_ns=begun_ns,
            structure=structure,
            constraint=constraint,
            extra_parameters={"replay_of": recorded.call.index},
        )

    async def _replay_embedding(self, recorded: CallDetail, caller: Caller, request_id: str) -> ReplayResult:
        begun_ns, limit = self._calls.now_ns(), self._calls.limit_for(caller)
        async with within(limit), self._models.lease(recorded.call.model) as model:
            pin, known = embedding_pin(embedding(model)), embedding(model).embedder.embedding
        reason = why_not_comparable(recorded, pin) or why_vectors_not_comparable(recorded, pin, known)
        if reason is not None:
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason=reason)
        again_asked, of = recorded_request(recorded, request_id), recorded.call.index
        opened = await self._embeddings.open(again_asked, caller, replay_of=of, begun_ns=begun_ns)
        try:
            again = await opened.result()
        finally:
            opened.close()
        if again is None:
            return ReplayResult(ReplayVerdict.NOT_COMPARABLE, reason="the replay was cancelled")
        return compare_vectors(recorded, again)


def _why_form_not_comparable(recorded: CallDetail, model: ServedModel) -> str | None:
    """See :func:`why_form_not_comparable`. Blocking: may make the compiler, which not every tokenizer lets be made."""
    try:
        compiler = None if model.grammars is None else model.grammars.version
    except InvalidRequest as refused:
        return f"{_REFUSED}: {refused.message}"
    return why_form_not_comparable(recorded, compiler)
