"""The walk of an embedding: admitted, tokenised, its intent durable, the vectors made, its outcome durable.

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
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol, cast

from minivault.access.caller import Caller
from minivault.access.limits import Reservation
from minivault.embedding import MAX_TEXTS, Embedded, EmbeddingRequest
from minivault.engine.embedding import Embedder, EmbeddingJob
from minivault.engine.engine import Engine
from minivault.errors import ContextTooLong, InvalidRequest, MiniVaultError, UnsupportedFeature
from minivault.generation import FinishReason, RecordRef, SamplingParams
from minivault.models.pooled import PooledModel
from minivault.models.prompt import PromptTokenizer
from minivault.service.admission import Place
from minivault.service.deadline import abort_after, remaining
from minivault.service.ports import ModelLease
from minivault.service.replay import ReplayResult, ReplayVerdict
from minivault.telemetry.logging import describe_error, get_logger
from minivault.vault.reader import CallDetail
from minivault.vault.record import Intent, Outcome, Pin, Receipt

if TYPE_CHECKING:
    from minivault.service.service import Service

logger = get_logger(__name__)

LONG_TEXT = 4096
"""Characters from which on tokenising leaves the event loop."""


class EmbeddingModel(Protocol):
    """A loaded model that can embed."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> PromptTokenizer: ...
    @property
    def weights_digest(self) -> str: ...
    @property
    def tokenizer_digest(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def embedder(self) -> Embedder: ...


def embedding(model: PooledModel) -> EmbeddingModel:
    """``model`` as one that embeds.

    Raises:
        UnsupportedFeature: it does not.
    """
    if getattr(model, "embedder", None) is None:
        raise UnsupportedFeature(f"the model {model.name} cannot embed: choose another with `model`", param="model")
    return cast(EmbeddingModel, model)


@dataclass(frozen=True, slots=True)
class PreparedTexts:
    """A request that has passed every check."""

    request: EmbeddingRequest
    caller: Caller
    lease: ModelLease
    """Holds the model until the call is over."""
    model: EmbeddingModel
    prompt_text: str
    texts: tuple[tuple[int, ...], ...]
    begun_ns: int
    extra_parameters: dict[str, Any]
    reservation: Reservation = field(default_factory=Reservation)
    """Tokens of the caller's that it uses; settled when the call is over."""
    place: Place = field(default_factory=Place)
    """Among the prompts that wait; given up when the call is over."""
    limit: float | None = None
    """Seconds that it may take from ``begun_ns`` on."""

    @property
    def sampling(self) -> SamplingParams:
        """None is drawn."""
        return SamplingParams(max_tokens=0)

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.texts))


class Embedding:
    """An embedding whose intent is durable. Await :meth:`result` once, and call :meth:`close` in any case."""

    def __init__(self, service: Service, prepared: PreparedTexts, intent: Receipt) -> None:
        self._service = service
        self._prepared = prepared
        self._job: EmbeddingJob | None = None
        self._abandoned = False
        self._abort: MiniVaultError | None = None
        self._outcome: asyncio.Future[Receipt] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._total_ns = 0
        self.intent = RecordRef(intent.index, intent.leaf)
        self.id = intent.call_id or prepared.request.request_id

    @property
    def abandoned(self) -> bool:
        """The caller left, and the record says so."""
        return self._abandoned

    async def result(self) -> Embedded | None:
        """The vectors, once the outcome is durable; ``None`` if the caller left meanwhile.

        Raises:
            EngineFailed: the engine broke.
            DeadlineExceeded: it took longer than it may.
            Draining: the server shut down before the end.
            LedgerUnavailable: the outcome could not be made durable, so there is no answer.
        """
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
        digest = digest_of(vectors)
        width = prepared.model.embedder.embedding.width
        said = json.dumps({"vectors": len(vectors), "width": width, "digest": digest})
        receipt = await asyncio.shield(self._record(FinishReason.STOP, said, None))
        kept = prepared.request.dimensions
        if kept is not None and kept != width:
            vectors = await asyncio.to_thread(lambda: tuple(shortened(one, kept) for one in vectors))
        return Embedded(
            id=self.id,
            model=prepared.model.name,
            vectors=vectors,
            width=kept or width,
            prompt_tokens=prepared.prompt_tokens,
            record=RecordRef(receipt.index, receipt.leaf),
            generated_at=self._service.utc_now(),
            total_ns=self._total_ns,
            digest=digest,
        )

    def _set_deadline(self) -> None:
        limit = self._prepared.limit
        left = remaining(limit, self._prepared.begun_ns, self._service.now_ns())
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
        self._total_ns = self._service.now_ns() - prepared.begun_ns
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
        self._outcome = self._service.append_outcome(outcome)
        self._outcome.add_done_callback(lambda done: self._service.settled(self, prepared, outcome, done))
        return self._outcome


async def prepared_texts(
    request: EmbeddingRequest, caller: Caller, lease: ModelLease, begun_ns: int, replay_of: int | None = None
) -> PreparedTexts:
    """A request, checked, with a lease of its own.

    Raises:
        InvalidRequest: a text is empty or too long, or a bound is broken.
        UnsupportedFeature: the model cannot embed.
    """
    model = embedding(lease.model)
    known = model.embedder.embedding
    _check_bounds(request, known.width)
    whole = await _tokens(request, model)
    texts = tuple(_fitting(text, place, known.max_tokens, request) for place, text in enumerate(whole))
    said = {
        "token_counts": [len(text) for text in texts],
        "pooling": known.pooling_digest,
        "dimensions": request.dimensions,
        "truncated": sum(len(one) != len(text) for one, text in zip(whole, texts, strict=True)),
    }
    words = _words(request, texts, model.tokenizer)
    return PreparedTexts(
        request,
        caller,
        lease.again(),
        model,
        words,
        texts,
        begun_ns,
        {"embedding": said} | ({} if replay_of is None else {"replay_of": replay_of}),
    )


def _check_bounds(request: EmbeddingRequest, width: int) -> None:
    if not 1 <= request.count <= MAX_TEXTS:
        raise InvalidRequest(f"input must have 1 to {MAX_TEXTS} texts", param="input")
    if request.dimensions is not None and not 1 <= request.dimensions <= width:
        raise InvalidRequest(f"dimensions must be from 1 to {width} for this model", param="dimensions")


async def _tokens(request: EmbeddingRequest, model: EmbeddingModel) -> tuple[tuple[int, ...], ...]:
    if request.token_ids:
        most = model.engine.info.vocab_size
        if not all(0 <= token_id < most for text in request.token_ids for token_id in text):
            raise InvalidRequest(f"input: token ids must lie in 0 to {most - 1}", param="input")
        return request.token_ids
    lower = getattr(model, "lower_case", False)

    def encoded() -> tuple[tuple[int, ...], ...]:
        texts = (text.lower() if lower else text for text in request.texts)
        return tuple(tuple(model.tokenizer.encode(text, add_special_tokens=True)) for text in texts)

    return encoded() if sum(map(len, request.texts)) < LONG_TEXT else await asyncio.to_thread(encoded)


def _fitting(text: tuple[int, ...], place: int, longest: int, request: EmbeddingRequest) -> tuple[int, ...]:
    """``text`` within the model's bound. What is cut is cut before its last token: an encoder's texts end in one."""
    if not text:
        raise InvalidRequest(f"input.{place} must give at least 1 token", param="input")
    if len(text) <= longest:
        return text
    if not request.truncate:
        raise ContextTooLong(
            f"input.{place} has {len(text)} tokens, and this model takes at most {longest}", param="input"
        )
    return text[:longest] if request.token_ids else (*text[: longest - 1], text[-1])


def _words(request: EmbeddingRequest, texts: Sequence[Sequence[int]], tokenizer: PromptTokenizer) -> str:
    """What the vault shows as the prompt: the text, or all of them as a JSON list."""
    words = list(request.texts)
    for ids in texts if not words else ():
        decoder = tokenizer.decoder()
        words.append(decoder.push(list(ids)) + decoder.finish())
    return words[0] if len(words) == 1 else json.dumps(words, ensure_ascii=False)


def digest_of(vectors: Sequence[bytes]) -> str:
    """``sha256:...`` over all vectors, one after the other."""
    return "sha256:" + hashlib.sha256(b"".join(vectors)).hexdigest()


def shortened(vector: bytes, dimensions: int) -> bytes:
    """The first ``dimensions`` numbers, scaled to length 1 (in double precision; a vector of zeros stays)."""
    values = struct.unpack(f"<{dimensions}f", vector[: 4 * dimensions])
    length = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def embedding_pin(model: EmbeddingModel) -> Pin:
    """What vectors of this model depend on. How they are pooled takes the place of a template."""
    info = model.engine.info
    return Pin(
        model=model.name,
        weights_digest=model.weights_digest,
        tokenizer_digest=model.tokenizer_digest,
        template_digest=model.embedder.embedding.pooling_digest,
        engine=info.name,
        engine_build=info.build,
        arithmetic=info.arithmetic,
        exact=info.exact,
    )


def embedding_intent(prepared: PreparedTexts) -> Intent:
    request = prepared.request
    return Intent(
        request_id=request.request_id,
        surface=request.surface,
        source=request.source,
        api_key_id=prepared.caller.api_key_id,
        mode="full",
        pin=embedding_pin(prepared.model),
        parameters=prepared.extra_parameters,
        ignored=request.ignored,
        store=request.store and prepared.caller.store,
        prompt_text=prepared.prompt_text,
        prompt_token_ids=tuple(token_id for text in prepared.texts for token_id in text),
        raw_request=request.raw_request,
    )


def is_embedding(recorded: CallDetail) -> bool:
    """Whether a recorded call gave vectors rather than an answer."""
    return "embedding" in (recorded.intent.get("parameters") or {})


def recorded_request(recorded: CallDetail, request_id: str) -> EmbeddingRequest:
    """The request that makes the vectors of a recorded call again."""
    counts = recorded.intent["parameters"]["embedding"]["token_counts"]
    ids = recorded.prompt_token_ids or ()
    texts = tuple(tuple(ids[start:end]) for start, end in pairwise((0, *accumulate(counts))))
    return EmbeddingRequest(
        token_ids=texts, model=recorded.call.model, request_id=request_id, surface="replay", store=recorded.call.store
    )


def why_vectors_not_comparable(recorded: CallDetail, now: Pin) -> str | None:
    """Beyond what holds for every call: the reason why making the vectors again would prove nothing."""
    if recorded.call.finish_reason != FinishReason.STOP or not recorded.call.response:
        return "no vectors of it are on record"
    if (recorded.intent.get("pin") or {}).get("template_digest") != now.template_digest:
        return "it was pooled in another way"
    return None


def compare_vectors(recorded: CallDetail, again: Embedded) -> ReplayResult:
    """Compare by digest: vectors have no first token that differs, so a mismatch names none."""
    digest = json.loads(recorded.call.response or "{}").get("digest")
    verdict = ReplayVerdict.MATCH if digest == again.digest else ReplayVerdict.MISMATCH
    return ReplayResult(verdict, compared_tokens=again.prompt_tokens, record=again.record)
