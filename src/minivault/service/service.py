"""The one walk of a request: admit, tokenise, record the intent, run the engine, record the outcome, answer.

Nothing is shown before the intent is durable, and nothing is called finished before the outcome is durable. Knows
nothing of HTTP. Everything here is owned by the event loop; engine and ledger are met through a stream and a future.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from minivault.access.caller import Caller
from minivault.embedding import Embedded, EmbeddingRequest
from minivault.engine.engine import EngineStats
from minivault.errors import (
    Draining,
    MiniVaultError,
    Overloaded,
    limit_of,
)
from minivault.generation import Chunk, Completion, FinishReason, GenerationRequest
from minivault.models.pooled import unloaded
from minivault.models.prompt import read_prompt
from minivault.service.admission import Line, Pace
from minivault.service.choices import Choices
from minivault.service.deadline import least, remaining, within
from minivault.service.embedding import (
    Embedding,
    PreparedTexts,
    embedding_intent,
    prepared_texts,
)
from minivault.service.figures import figures_of
from minivault.service.ports import Book, ModelSource, RecordReader, ServedModel, generating
from minivault.service.preparing import ENGINE_STOPPED, Preparer, reserved
from minivault.service.records import Records
from minivault.service.repeat import recorded_answer
from minivault.service.replay import (
    ReplayResult,
)
from minivault.service.replaying import During, Replayer
from minivault.service.traced import traced
from minivault.service.walk import Generation, Prepared, effective_of, intent_of, key_of, pin_of
from minivault.telemetry.logging import get_logger
from minivault.telemetry.metrics import FinishedRequest, Metrics
from minivault.telemetry.tracing import NO_TRACING, Tracing
from minivault.vault.record import Outcome, Receipt

logger = get_logger(__name__)

SEED_BITS = 53
"""Drawn seeds stay whole in every JSON reader."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of the service, from the settings."""

    default_max_tokens: int = 256
    max_running: int = 64
    max_waiting: int = 256
    max_waiting_tokens: int = 500_000
    request_timeout: float | None = None
    """Most seconds that any request may take; ``None``: no end."""
    abort_grace: float = 5.0
    """Seconds that aborted generations have to tell their readers and be recorded, at the end of a drain."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What /health shows. Times are milliseconds, of requests recorded since the start."""

    total_requests: int
    average_response_time_ms: float
    uptime_seconds: float
    model: str
    model_loaded: bool
    running: int
    waiting: int
    kv_cache_usage: float
    records: int
    head_size: int
    signed_at: str | None


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
        self.models = models
        self.metrics = metrics or Metrics()
        self.tracing: Tracing = NO_TRACING
        """Where spans go; whoever opened the service may set it before the first request."""
        self.now_ns = now_ns
        self.utc_now = utc_now or utc_in
        self.utc_in = utc_in
        self._ledger = ledger
        self.records = Records(records, ledger)
        self._limits = limits or ServiceLimits()
        self._answer_from_record = answer_from_record
        self._new_id = new_id
        self._preparer = Preparer(self._limits.default_max_tokens, draw_seed, new_id)
        self._replayer = Replayer(self)
        self._started_ns = now_ns()
        self._admitted = 0
        self._pace = Pace(now_ns)
        self._line = Line(self._limits.max_waiting_tokens, self._pace)
        self._open: set[Generation | Embedding] = set()
        self._orphans: set[asyncio.Task[None]] = set()
        self._all_settled = asyncio.Event()
        self._all_settled.set()
        self._finished = 0
        self._total_ns = 0
        self.draining = False
        self._drain: asyncio.Task[None] | None = None
        self.metrics.watch_engine(self._engine_stats)
        self.metrics.watch_models(self.models.states)
        self.metrics.watch_vault(lambda: figures_of(self._ledger.status(), self.utc_now()))

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
            LedgerUnavailable: the intent could not be made durable. Nothing ran.
            EngineFailed: the engine takes no work.
        """
        prepared = await self._admitted_all((request,), caller)
        return await self.begin(prepared[0])

    async def open_all(self, requests: Sequence[GenerationRequest], caller: Caller) -> Choices:
        """As :meth:`open`, for the choices of one request: all are admitted and pass their checks, or none."""
        prepared = await self._admitted_all(requests, caller)
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

    async def _admitted_all(self, requests: Sequence[GenerationRequest], caller: Caller) -> list[Prepared]:
        """The choices of one request, which share a model."""
        self.admit(len(requests))
        prepared: list[Prepared] = []
        try:
            begun_ns = self.now_ns()
            caller.require_model(requests[0].model or self.models.default_name)
            limit = self.limit_for(caller, requests[0].timeout)
            async with within(limit):
                lease = await self.models.acquire(requests[0].model, caller.stay(requests[0].keep_alive))
            try:
                for request in requests:
                    prepared.append(await self._preparer.prepare(request, caller, lease, begun_ns))
                    prepared[-1] = await reserved(await self._with_record(prepared[-1]))
                    prepared[-1] = self.placed(prepared[-1], limit)
            finally:
                lease.release()
        except BaseException as error:
            for one in prepared:
                one.place.release()
                one.lease.release()
                one.reservation.settle(0)
            self.leave(len(requests))
            if isinstance(error, MiniVaultError):
                self.metrics.rejected(error.code, limit_of(error))
            raise
        return prepared

    async def _with_record(self, prepared: Prepared) -> Prepared:
        """With the answer that an earlier call got, where that is wanted and there is one that the caller may read."""
        asked = prepared.caller.answer_from_record
        wanted = self._answer_from_record if asked is None else asked
        key = key_of(prepared) if wanted and prepared.sampling.logprobs is None else None
        if key is None:
            return prepared
        try:
            calls = await self.records.repeats(key, owner=prepared.caller.owner)
        except MiniVaultError as error:
            logger.warning("no answer from the record", error=error.code)  # the engine can answer all the same
            return prepared
        pin, effective = pin_of(prepared.model), effective_of(prepared)
        return replace(prepared, recorded=recorded_answer(calls, pin, prepared.prompt_token_ids, effective))

    def limit_for(self, caller: Caller, asked: float | None = None) -> float | None:
        """Seconds that a request may take: the tightest of what it, its caller and the settings say."""
        return least(asked, caller.timeout, self._limits.request_timeout)

    def placed(self, prepared: Prepared, limit: float | None) -> Prepared:
        """With a place among the prompts that wait.

        Raises:
            Overloaded: they are too many tokens already.
        """
        return replace(prepared, place=self._line.enter(len(prepared.prompt_token_ids)), limit=limit)

    async def begin(self, prepared: Prepared) -> Generation:
        """Record the intent of an admitted request and submit it."""
        future = _on_this_loop(lambda: self._ledger.append_intent(intent_of(prepared)))
        try:
            receipt = await asyncio.shield(future)
        except asyncio.CancelledError:
            self._spawn(self._close_orphan(partial(self._opened, prepared), prepared, future))
            raise
        except BaseException:
            self.give_up(prepared)
            raise
        generation = self._opened(prepared, receipt)
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

    def give_up(self, prepared: Prepared | PreparedTexts) -> None:
        """An admitted request is over."""
        prepared.reservation.settle(0)
        prepared.place.release()
        prepared.lease.release()
        self.leave()

    def _opened(self, prepared: Prepared, intent: Receipt) -> Generation:
        generation = Generation(self, prepared, intent)
        self._open.add(generation)
        return generation

    async def _close_orphan(
        self,
        opened: Callable[[Receipt], Generation | Embedding],
        prepared: Prepared | PreparedTexts,
        intent: asyncio.Future[Receipt],
    ) -> None:
        """The caller left while the intent was being written: give the intent its outcome."""
        try:
            receipt = await intent
        except Exception:
            self.give_up(prepared)  # never durable, so there is nothing to end
            return
        opened(receipt).close()

    async def replay(
        self, record_id: str, caller: Caller, *, request_id: str = "", during: During = lambda _: nullcontext()
    ) -> ReplayResult:
        """Run a recorded call again and compare its tokens. The replay is itself recorded, as surface ``replay``.

        ``during``: a block around the run, which may abandon it.

        Raises:
            UnknownRecord: there is no such record.
            UnknownModel, ModelNotReady, Overloaded, Draining, LedgerUnavailable, EngineFailed: as :meth:`open`.
        """
        result = await self._replayer.replay(record_id, caller, request_id or self._new_id(), during)
        self.metrics.replayed(result.verdict)
        return result

    async def count_tokens(self, request: GenerationRequest, caller: Caller) -> int:
        """How many tokens the model would be given. Nothing runs, so nothing is recorded.

        Raises:
            InvalidRequest, UnknownModel, ModelNotReady, Overloaded, Draining, DeadlineExceeded: as :meth:`open`.
        """
        self.admit()
        try:
            async with within(self.limit_for(caller, request.timeout)), self.models.lease(request.model) as held:
                model = generating(held)
                prompt = await read_prompt(request, model.tokenizer, model.chat_template, model.engine.info.vocab_size)
                return len(prompt.token_ids)
        finally:
            self.leave()

    async def load_model(self, name: str | None, keep_alive: float | None = None) -> None:
        """Have a model ready in memory. ``keep_alive``: seconds that it stays when idle; negative, for ever.

        Raises:
            UnknownModel, ModelTooLarge, Overloaded, ModelNotReady, CheckpointError: it cannot be.
        """
        await self.models.load(name, keep_alive)

    async def unload_model(self, name: str) -> bool:
        """Have a model leave memory once nobody uses it, and wait for that. Returns whether it was there.

        Raises:
            UnknownModel: there is none of this name.
            ModelNotReady: it is in use for too long.
        """
        if name not in self.models.states():
            await asyncio.to_thread(self.models.describe, name)
        return await self.models.unload(name)

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
        """The catalog, one JSON object a model."""
        return [self._with_state(entry) for entry in await asyncio.to_thread(self.models.listing)]

    def models_in_memory(self) -> dict[str, dict[str, Any]]:
        """The state of each model that is loaded, on its way, or failed to load."""
        return self.models.states()

    def _with_state(self, entry: dict[str, Any]) -> dict[str, Any]:
        return entry | self.models.states().get(entry["name"], unloaded())

    def admit(self, count: int = 1) -> None:
        """Take places among the requests that run and wait.

        Raises:
            Draining, Overloaded: there are none.
        """
        if self.draining:
            self.metrics.rejected(Draining.code)
            raise Draining("The server is shutting down.", retry_after=5)
        if self._admitted + count > self._limits.max_running + self._limits.max_waiting:
            self.metrics.rejected(Overloaded.code)
            raise Overloaded("The queue is full.", retry_after=self._pace.refused())
        self._admitted += count
        self._all_settled.clear()

    def leave(self, count: int = 1) -> None:
        """Give places back that :meth:`admit` took."""
        self._admitted -= count
        if self._admitted == 0:
            self._all_settled.set()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embedded | None:
        """Vectors for texts. Raises what :meth:`open_embedding` and :meth:`Embedding.result` raise."""
        opened = await self.open_embedding(request, caller)
        try:
            return await opened.result()
        finally:
            opened.close()

    async def open_embedding(
        self,
        request: EmbeddingRequest,
        caller: Caller,
        replay_of: int | None = None,
        begun_ns: int | None = None,
    ) -> Embedding:
        """Check a request for vectors and make its intent durable. The caller of this must close what it returns.

        ``begun_ns``: since when its time counts; by default, now.

        Raises:
            InvalidRequest, UnknownModel, ModelNotReady, Overloaded, Draining, RateLimited, DeadlineExceeded: refused;
                nothing was recorded.
            UnsupportedFeature: the model cannot embed.
            LedgerUnavailable: the intent could not be made durable. Nothing ran.
        """
        named = request if request.request_id else replace(request, request_id=self._new_id())
        self.admit()
        try:
            caller.require_model(request.model or self.models.default_name)
            prepared = await self._prepared_texts(
                named, caller, replay_of, self.now_ns() if begun_ns is None else begun_ns
            )
        except BaseException as error:
            self.leave()
            if isinstance(error, MiniVaultError):
                self.metrics.rejected(error.code, limit_of(error))
            raise
        future = _on_this_loop(lambda: self._ledger.append_intent(embedding_intent(prepared)))
        try:
            receipt = await asyncio.shield(future)
        except asyncio.CancelledError:
            self._spawn(self._close_orphan(partial(self._opened_embedding, prepared), prepared, future))
            raise
        except BaseException:
            self.give_up(prepared)
            raise
        return self._opened_embedding(prepared, receipt)

    async def _prepared_texts(
        self, request: EmbeddingRequest, caller: Caller, replay_of: int | None, begun_ns: int
    ) -> PreparedTexts:
        """Checked, with a place among what waits and its tokens taken."""
        limit = self.limit_for(caller)
        async with within(limit, remaining(limit, begun_ns, self.now_ns())):
            lease = await self.models.acquire(request.model, caller.stay(request.keep_alive))
            try:
                prepared = await prepared_texts(request, caller, lease, begun_ns, replay_of)
            finally:
                lease.release()
        try:
            prepared = replace(prepared, place=self._line.enter(prepared.prompt_tokens), limit=limit)
            return replace(prepared, reservation=await caller.quota.reserve(prepared.prompt_tokens))
        except BaseException:
            prepared.place.release()
            prepared.lease.release()
            raise

    def _opened_embedding(self, prepared: PreparedTexts, intent: Receipt) -> Embedding:
        opened = Embedding(self, prepared, intent)
        self._open.add(opened)
        return opened

    def append_outcome(self, outcome: Outcome) -> asyncio.Future[Receipt]:
        return _on_this_loop(lambda: self._ledger.append_outcome(outcome))

    def settled(
        self,
        generation: Generation | Embedding,
        prepared: Prepared | PreparedTexts,
        outcome: Outcome,
        done: asyncio.Future[Receipt],
    ) -> None:
        """An outcome is durable, or never will be. Only durable ones are counted."""
        self._open.discard(generation)
        self._pace.ended()
        prepared.reservation.settle(outcome.prompt_tokens + outcome.completion_tokens)
        self.give_up(prepared)
        failure = done.exception() if not done.cancelled() else None
        if done.cancelled() or failure is not None:
            logger.error("outcome not durable", request_id=generation.id, intent=outcome.intent_index)
            return
        self._finished += 1
        self._total_ns += outcome.timings["total_ns"]
        self.tracing.call(traced(prepared, generation.id, outcome, done.result()))
        first = outcome.timings.get("first_token_ns")
        self.metrics.finished(
            FinishedRequest(
                model=prepared.model.name,
                engine=prepared.model.engine.info.name,
                finish_reason=outcome.finish_reason,
                prompt_tokens=outcome.prompt_tokens,
                completion_tokens=outcome.completion_tokens,
                max_tokens=prepared.sampling.max_tokens or 0,
                queue_seconds=outcome.timings["queue_ns"] / 1e9,
                first_token_seconds=None if first is None else first / 1e9,
                total_seconds=outcome.timings["total_ns"] / 1e9,
                embedded_texts=_embedded_texts(prepared, outcome),
            )
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)

    async def drain(self, patience: float) -> None:
        """Refuse new work, let running work end for ``patience`` seconds, abort the rest, and see it all recorded.

        Later calls wait for the first one's end; a caller that is cancelled does not end it.
        """
        self.draining = True
        self.models.drain()
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drained(patience))
        await asyncio.shield(self._drain)

    async def _drained(self, patience: float) -> None:
        if await self._settle_within(patience):
            return
        for generation in list(self._open):
            generation.abort(Draining("The server shut down before the answer ended."))
        if await self._settle_within(self._limits.abort_grace):
            return
        for generation in list(self._open):  # their readers do not read
            generation.close()
        await self._settle_within(self._limits.abort_grace)

    async def _settle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._all_settled.wait()
        except TimeoutError:
            return False
        return True

    @property
    def open_calls(self) -> int:
        """Calls that have begun and have no outcome yet."""
        return len(self._open)

    def not_ready_because(self) -> str | None:
        """Why requests would be refused now; ``None`` when they would not."""
        if self.draining:
            return "The server is shutting down."
        state = self._ledger.status()
        if not state.writable:
            return f"The vault cannot be written: {state.reason}"
        reason = self.models.not_ready_because()
        if reason is None and any(model.name == self.models.default_name for model in self._broken()):
            return ENGINE_STOPPED
        return reason

    def statistics(self) -> Statistics:
        stats = [stats for _, _, stats in self._engine_stats()]
        state = self._ledger.status()
        return Statistics(
            total_requests=self._finished,
            average_response_time_ms=round(self._total_ns / self._finished / 1e6, 3) if self._finished else 0.0,
            uptime_seconds=round((self.now_ns() - self._started_ns) / 1e9, 3),
            model=self.models.default_name,
            model_loaded=bool(stats),
            running=sum(one.running for one in stats),
            waiting=sum(one.waiting for one in stats),
            kv_cache_usage=max((one.kv_cache_usage for one in stats), default=0.0),
            records=state.records,
            head_size=state.tree_size,
            signed_at=state.signed_at,
        )

    def _engine_stats(self) -> list[tuple[str, str, EngineStats]]:
        return [(model.name, model.engine.info.name, model.engine.stats()) for model in self._generating()]

    def _broken(self) -> list[ServedModel]:
        return [model for model in self._generating() if model.engine.failure is not None]

    def _generating(self) -> list[ServedModel]:
        return [generating(model) for model in self.models.loaded() if model.kind == "generation"]


def _embedded_texts(prepared: Prepared | PreparedTexts, outcome: Outcome) -> int:
    if not isinstance(prepared, PreparedTexts) or outcome.finish_reason != FinishReason.STOP:
        return 0
    return len(prepared.texts)


def _close_if_begun(task: asyncio.Future[Generation]) -> None:
    """Close one of several generations if it began, because another did not."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _on_this_loop(append: Callable[[], Future[Receipt]]) -> asyncio.Future[Receipt]:
    """The ledger's future as one of this loop. Await it shielded: cancelling it would cancel the append."""
    try:
        return asyncio.wrap_future(append())
    except Exception as error:
        failed: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        return failed


def utc_in(seconds: float = 0.0) -> str:
    """The time in so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
