"""Opens answers: requests are checked against their model, recorded, and handed to its engine, or answered from record.

Knows nothing of HTTP, or of how an answer comes to its end. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from minivault.access.caller import Caller
from minivault.errors import MiniVaultError
from minivault.generation import GenerationRequest
from minivault.service.calls import Calls, let_go
from minivault.service.choices import Choices
from minivault.service.deadline import within
from minivault.service.ports import ModelSource
from minivault.service.prepared import Prepared, effective_of, intent_of, key_of, pin_of
from minivault.service.preparing import Preparer, reserved
from minivault.service.records import Records
from minivault.service.repeat import recorded_answer
from minivault.service.walk import Generation
from minivault.telemetry.logging import get_logger

logger = get_logger(__name__)


class Generations:
    """What each method opens, its caller must close."""

    def __init__(
        self, models: ModelSource, records: Records, calls: Calls, preparer: Preparer, *, answer_from_record: bool
    ) -> None:
        """``answer_from_record``: where neither request nor key says otherwise."""
        self._models = models
        self._records = records
        self._calls = calls
        self._preparer = preparer
        self._answer_from_record = answer_from_record

    async def open(self, request: GenerationRequest, caller: Caller) -> Generation:
        """See :meth:`minivault.service.service.Service.open`."""
        prepared = await self._admitted((request,), caller)
        return await self.begin(prepared[0])

    async def open_all(self, requests: Sequence[GenerationRequest], caller: Caller) -> Choices:
        """See :meth:`minivault.service.service.Service.open_all`."""
        prepared = await self._admitted(requests, caller)
        if len(prepared) == 1:
            return Choices((await self.begin(prepared[0]),))
        beginning = [asyncio.ensure_future(self.begin(one)) for one in prepared]
        try:
            await asyncio.wait(beginning)
        except asyncio.CancelledError:
            for task in beginning:
                task.cancel()
                # Each by itself: a second cancellation may end the waiting below.
                task.add_done_callback(_close_if_begun)
            await asyncio.wait(beginning)
            raise
        failure = next((error for task in beginning if (error := task.exception()) is not None), None)
        if failure is not None:
            for task in beginning:
                _close_if_begun(task)
            raise failure
        return Choices(tuple(task.result() for task in beginning))

    async def begin(self, prepared: Prepared) -> Generation:
        """Record the intent of an admitted request and submit it. Raises as :meth:`open`."""
        generation = await self._calls.begin(
            prepared, lambda: intent_of(prepared), lambda: Generation(self._calls, prepared)
        )
        try:
            generation.submit()
            await generation.accepted()
        except Exception as error:
            await generation.fail(error)
            raise
        except asyncio.CancelledError:
            generation.close()
            raise
        return generation

    def in_line(self, prepared: Prepared, limit: float | None) -> Prepared:
        """With a place among the prompts that wait, and the seconds that it may take.

        Raises:
            Overloaded: they are too many tokens already.
        """
        place = self._calls.wait_in_line(len(prepared.prompt_token_ids), prepared.caller)
        return replace(prepared, place=place, limit=limit)

    async def _admitted(self, requests: Sequence[GenerationRequest], caller: Caller) -> list[Prepared]:
        """The choices of one request, which share a model: all with places, checked and reserved for, or none."""
        self._calls.admit(caller, len(requests))
        prepared: list[Prepared] = []
        try:
            await self._prepare_into(prepared, requests, caller)
        except BaseException as error:
            for one in prepared:
                let_go(one)
            self._calls.refused(error, caller, len(requests))
            raise
        return prepared

    async def _prepare_into(
        self, prepared: list[Prepared], requests: Sequence[GenerationRequest], caller: Caller
    ) -> None:
        """Each stands in ``prepared`` as soon as it holds something."""
        begun_ns = self._calls.now_ns()
        caller.require_model(requests[0].model or self._models.default_name)
        limit = self._calls.limit_for(caller, requests[0].timeout)
        async with within(limit):
            lease = await self._models.acquire(requests[0].model, caller.stay(requests[0].keep_alive))
            try:
                for request in requests:
                    prepared.append(await self._preparer.prepare(request, caller, lease, begun_ns))
                    prepared[-1] = await self._with_record(prepared[-1])
                self._calls.require_room_in_line([len(one.prompt_token_ids) for one in prepared], caller)
                for place, one in enumerate(prepared):
                    others = [other for other in prepared if other is not one]
                    prepared[place] = await reserved(one, others, len(prepared) - place)
                    prepared[place] = self.in_line(prepared[place], limit)
            finally:
                lease.release()

    async def _with_record(self, prepared: Prepared) -> Prepared:
        """With the answer that an earlier call got, where that is wanted and there is one that the caller may read."""
        asked = prepared.caller.answer_from_record
        wanted = self._answer_from_record if asked is None else asked
        key = key_of(prepared) if wanted and prepared.sampling.logprobs is None else None
        if key is None:
            return prepared
        try:
            calls = await self._records.repeats(key, owner=prepared.caller.owner)
        except MiniVaultError as error:
            logger.warning("no answer from the record", error=error.code)  # the engine can answer all the same
            return prepared
        pin, effective = pin_of(prepared.model), effective_of(prepared)
        return replace(prepared, recorded=recorded_answer(calls, pin, prepared.prompt_token_ids, effective))


def _close_if_begun(task: asyncio.Future[Generation]) -> None:
    """Close one of several generations if it began, because another did not."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
