"""Opens embeddings: texts are checked against their model and recorded, so that their vectors may be made.

Knows nothing of HTTP, or of how vectors are made. Owned by the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from minivault.access.caller import Caller
from minivault.embedding import EmbeddingRequest
from minivault.service.calls import Calls, let_go
from minivault.service.deadline import remaining, within
from minivault.service.embedding import Embedding
from minivault.service.ports import ModelSource
from minivault.service.texts import PreparedTexts, embedding_intent, prepared_texts


class Embeddings:
    """What :meth:`open` opens, its caller must close."""

    def __init__(self, models: ModelSource, calls: Calls, new_id: Callable[[], str]) -> None:
        self._models = models
        self._calls = calls
        self._new_id = new_id

    async def open(
        self,
        request: EmbeddingRequest,
        caller: Caller,
        *,
        replay_of: int | None = None,
        begun_ns: int | None = None,
    ) -> Embedding:
        """See :meth:`minivault.service.service.Service.open_embedding`.

        ``replay_of``: the record whose vectors are made again. ``begun_ns``: since when its time counts; by default,
        now.
        """
        named = request if request.request_id else replace(request, request_id=self._new_id())
        self._calls.admit(caller)
        try:
            caller.require_model(request.model or self._models.default_name)
            since = self._calls.now_ns() if begun_ns is None else begun_ns
            prepared = await self._prepared(named, caller, replay_of, since)
        except BaseException as error:
            self._calls.refused(error, caller)
            raise
        return await self._calls.begin(
            prepared, lambda: embedding_intent(prepared), lambda: Embedding(self._calls, prepared)
        )

    async def _prepared(
        self, request: EmbeddingRequest, caller: Caller, replay_of: int | None, begun_ns: int
    ) -> PreparedTexts:
        """Checked, with a place among what waits and its tokens taken."""
        limit = self._calls.limit_for(caller)
        async with within(limit, remaining(limit, begun_ns, self._calls.now_ns())):
            lease = await self._models.acquire(request.model, caller.stay(request.keep_alive))
            try:
                prepared = await prepared_texts(request, caller, lease, begun_ns, replay_of)
            finally:
                lease.release()
        try:
            prepared = replace(prepared, place=self._calls.wait_in_line(prepared.prompt_tokens, caller), limit=limit)
            return replace(prepared, reservation=await caller.quota.reserve(prepared.prompt_tokens))
        except BaseException:
            let_go(prepared)
            raise
