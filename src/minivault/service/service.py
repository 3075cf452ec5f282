"""The service: what a server does for its callers, put together of models, ledger, and the walks of a request.

Nothing is shown before the intent is durable, and nothing is called finished before the outcome is durable: see
:mod:`minivault.service.calls`. Knows nothing of HTTP. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from minivault.access.caller import Caller
from minivault.embedding import Embedded, EmbeddingRequest
from minivault.engine.engine import EngineStats
from minivault.generation import Chunk, Completion, GenerationRequest
from minivault.models.pooled import unloaded
from minivault.models.prompt import read_prompt
from minivault.service.calls import Calls
from minivault.service.choices import Choices
from minivault.service.deadline import within
from minivault.service.embedding import Embedding
from minivault.service.embeddings import Embeddings
from minivault.service.figures import figures_of
from minivault.service.generations import Generations
from minivault.service.limits import ServiceLimits
from minivault.service.ports import Book, ModelSource, RecordReader, ServedModel, generating
from minivault.service.preparing import ENGINE_STOPPED, Preparer
from minivault.service.records import Records
from minivault.service.replay import ReplayResult
from minivault.service.replaying import Replayer
from minivault.service.walk import Generation
from minivault.telemetry.metrics import Metrics
from minivault.telemetry.tracing import Tracing

SEED_BITS = 53
"""Drawn seeds stay whole in every JSON reader."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What /health shows. Times are milliseconds, of requests recorded since the start."""

    total_requests: int
    average_response_time_ms: float
    uptime_seconds: float
    model: str
    running: int
    waiting: int
    kv_cache_usage: float
    records: int
    head_size: int
    signed_at: str | None
    head_error: str | None
    """Why the newest records have no signed head, or the head is not where it is to be exported to."""
    mirror_error: str | None
    """Why ``log.jsonl`` lags behind."""


class Service:
    """Runs requests. One a server, on one event loop."""

    def __init__(
        self,
        models: ModelSource,
        ledger: Book,
        records: RecordReader,
        *,
        limits: ServiceLimits | None = None,
        answer_from_record: bool = False,
        metrics: Metrics | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        utc_now: Callable[[], str] | None = None,
        draw_seed: Callable[[], int] = lambda: secrets.randbits(SEED_BITS),
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        limits = limits or ServiceLimits()
        self.models = models
        self.metrics = metrics or Metrics()
        self.records = Records(records, ledger)
        self.utc_now = utc_now or utc_in
        self.utc_in = utc_in
        self._ledger = ledger
        self._new_id = new_id
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._calls = Calls(ledger, limits, self.metrics, now_ns, self.utc_now)
        self._generations = Generations(
            models,
            self.records,
            self._calls,
            Preparer(limits.default_max_tokens, draw_seed, new_id),
            answer_from_record=answer_from_record,
        )
        self._embeddings = Embeddings(models, self._calls, new_id)
        self._replayer = Replayer(models, self.records, self._calls, self._generations, self._embeddings)
        self.metrics.watch_engine(self._engine_stats)
        self.metrics.watch_models(models.states)
        self.metrics.watch_vault(lambda: figures_of(ledger.status(), self.utc_now()))

    @property
    def tracing(self) -> Tracing:
        """Where spans go; whoever opened the service may set it before the first request."""
        return self._calls.tracing

    @tracing.setter
    def tracing(self, tracing: Tracing) -> None:
        self._calls.tracing = tracing

    # -- answers

    async def generate(self, request: GenerationRequest, caller: Caller) -> Completion:
        """Run a request to its end. Raises what :meth:`open` and :meth:`Generation.result` raise."""
        generation = await self.open(replace(request, stream=False), caller)
        try:
            return await generation.result()
        finally:
            generation.close()

    async def stream(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[Chunk]:
        """Run a request in pieces. Close the iterator to cancel. Raises as :meth:`generate`."""
        generation = await self.open(replace(request, stream=True), caller)
        try:
            async with aclosing(generation.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            generation.close()

    async def open(self, request: GenerationRequest, caller: Caller) -> Generation:
        """Check a request, make its intent durable, and submit it. The caller of this must close what it returns.

        Raises:
            InvalidRequest: a field is wrong for this model. Nothing was recorded.
            UnknownModel, ModelNotReady, Overloaded, Draining: refused. Nothing was recorded.
            LedgerUnavailable: the intent could not be made durable. Nothing is shown of what ran meanwhile.
            EngineFailed: the engine takes no work.
        """
        return await self._generations.open(request, caller)

    async def open_all(self, requests: Sequence[GenerationRequest], caller: Caller) -> Choices:
        """As :meth:`open`, for the choices of one request: all are admitted and pass their checks, or none."""
        return await self._generations.open_all(requests, caller)

    async def replay(self, record_id: str, caller: Caller, *, request_id: str = "") -> ReplayResult:
        """Run a recorded call again and compare its tokens. The replay is itself recorded, as surface ``replay``.

        Cancelled, it ends the run, whose outcome says so.

        Raises:
            UnknownRecord: there is no such record.
            UnknownModel, ModelNotReady, Overloaded, Draining, LedgerUnavailable, EngineFailed: as :meth:`open`.
        """
        result = await self._replayer.replay(record_id, caller, request_id or self._new_id())
        self.metrics.replayed(result.verdict)
        return result

    async def count_tokens(self, request: GenerationRequest, caller: Caller) -> int:
        """How many tokens the model would be given. Nothing runs, so nothing is recorded.

        Raises:
            InvalidRequest, UnknownModel, ModelNotReady, Overloaded, Draining, DeadlineExceeded: as :meth:`open`.
        """
        self._calls.admit(caller)
        try:
            async with within(self._calls.limit_for(caller, request.timeout)), self.models.lease(request.model) as held:
                model = generating(held)
                prompt = await read_prompt(request, model.tokenizer, model.chat_template, model.engine.info.vocab_size)
                return len(prompt.token_ids)
        finally:
            self._calls.leave(caller)

    # -- vectors

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embedded | None:
        """Vectors for texts. Raises what :meth:`open_embedding` and :meth:`Embedding.result` raise."""
        opened = await self.open_embedding(request, caller)
        try:
            return await opened.result()
        finally:
            opened.close()

    async def open_embedding(self, request: EmbeddingRequest, caller: Caller) -> Embedding:
        """Check a request for vectors and make its intent durable. The caller of this must close what it returns.

        Raises:
            InvalidRequest, UnknownModel, ModelNotReady, Overloaded, Draining, RateLimited, DeadlineExceeded: refused;
                nothing was recorded.
            UnsupportedFeature: the model cannot embed.
            LedgerUnavailable: the intent could not be made durable. Nothing ran.
        """
        return await self._embeddings.open(request, caller)

    # -- models

    async def load_model(self, name: str | None, keep_alive: float | None = None) -> None:
        """Have a model ready in memory. ``keep_alive``: seconds that it stays when idle; negative, for ever.

        Raises:
            UnknownModel, ModelTooLarge, Overloaded, ModelNotReady, CheckpointError: it cannot be.
        """
        await self.models.load(name, keep_alive)

    async def unload_model(self, name: str) -> dict[str, Any]:
        """Have a model leave memory once nobody uses it, and wait for that. Returns what ``describe_model`` has of it
        then; of one whose files changed while it was in memory, with what it was loaded from.

        Raises:
            UnknownModel: there is none of this name, in memory neither.
            CheckpointCorrupt: its files changed or are gone, and it was not in memory.
            ModelNotReady: it is in use for too long.
        """
        described = await asyncio.to_thread(self.models.describe, name)
        await self.models.unload(name)
        return self._with_state(described)

    async def describe_model(self, name: str) -> dict[str, Any]:
        """What ``list_models`` has of a model, and its sizes.

        Raises:
            UnknownModel: there is none of this name.
        """
        return self._with_state(await asyncio.to_thread(self.models.describe, name))

    async def describe_models(self) -> list[dict[str, Any]]:
        """:meth:`describe_model` of the whole catalog."""
        return [await self.describe_model(entry["name"]) for entry in await self.list_models()]

    async def list_models(self) -> list[dict[str, Any]]:
        """The catalog, one JSON object a model that can be served."""
        return (await self.survey_models())[0]

    async def survey_models(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """:meth:`list_models`, and by the names of the models that cannot be served what is wrong with them."""
        entries, damaged = await asyncio.to_thread(self.models.listing)
        return [self._with_state(entry) for entry in entries], damaged

    def models_in_memory(self) -> dict[str, dict[str, Any]]:
        """The state of each model that is loaded, on its way, or failed to load."""
        return self.models.states()

    def _with_state(self, entry: dict[str, Any]) -> dict[str, Any]:
        return entry | self.models.states().get(entry["name"], unloaded())

    # -- the state of things

    def not_ready_because(self) -> str | None:
        """Why requests would be refused now; ``None`` when they would not."""
        if self._calls.draining:
            return "The server is shutting down."
        state = self._ledger.status()
        if not state.writable:
            why = state.reason or ""
            said = why if why.startswith("the vault") else f"the vault cannot be written: {why}"
            return said[:1].upper() + said[1:]
        return self.models.not_ready_because() or self._default_cannot()

    def _default_cannot(self) -> str | None:
        """What is wrong with the engine of the default model, as far as is known."""
        for model in self._generating():
            if model.name != self.models.default_name:
                continue
            if model.engine.failure is not None:
                return ENGINE_STOPPED
            upstreams = model.engine.stats().upstreams
            if upstreams and not any(upstream.healthy for upstream in upstreams):
                return "No upstream server of the default model can be reached."
        return None

    def statistics(self) -> Statistics:
        stats = [stats for _, _, stats in self._engine_stats()]
        state = self._ledger.status()
        return Statistics(
            total_requests=self._calls.finished,
            average_response_time_ms=self._calls.average_ms,
            uptime_seconds=round((self._now_ns() - self._started_ns) / 1e9, 3),
            model=self.models.default_name,
            running=sum(one.running for one in stats),
            waiting=sum(one.waiting for one in stats),
            kv_cache_usage=max((one.kv_cache_usage for one in stats), default=0.0),
            records=state.records,
            head_size=state.head_size,
            signed_at=state.signed_at,
            head_error=state.head_error,
            mirror_error=state.mirror_error,
        )

    @property
    def open_calls(self) -> int:
        """Calls that have begun and have no outcome yet."""
        return self._calls.open

    def _engine_stats(self) -> list[tuple[str, str, EngineStats]]:
        return [(model.name, model.engine.info.name, model.engine.stats()) for model in self._generating()]

    def _generating(self) -> list[ServedModel]:
        return [generating(model) for model in self.models.loaded() if model.kind == "generation"]

    async def drain(self, patience: float) -> None:
        """Refuse new work, let running work end for ``patience`` seconds, abort the rest, and see it all recorded.

        Later calls wait for the first one's end; a caller that is cancelled does not end it.
        """
        self.models.drain()
        await self._calls.drain(patience)


def utc_in(seconds: float = 0.0) -> str:
    """The time in so many seconds from now, of which a thousand million count: no calendar goes on for ever."""
    then = datetime.now(UTC) + timedelta(seconds=min(seconds, 1e9))
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
