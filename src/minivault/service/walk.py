"""The walk of one request from its intent to the durable outcome.

Two orders are kept here: nothing is shown before the intent is durable (the engine may be at work by then), and nothing
is called finished before the outcome is durable. Knows nothing of HTTP, or of how requests are admitted. Owned by the
event loop; the engine is met through a stream and the ledger through a future.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict

from minivault.engine.engine import GRAMMAR_TOO_COMPLEX, Answering, EngineRequest, TokenStep, TokenStream
from minivault.errors import EngineFailed, MiniVaultError
from minivault.generation import (
    Chunk,
    Completion,
    FinishReason,
    RecordRef,
    TokenLogprob,
    Usage,
)
from minivault.models.answer_text import AnswerText, Piece
from minivault.models.lexicon import Lexicon
from minivault.models.prompt import PromptTokenizer
from minivault.models.reasoning import answer_parser
from minivault.models.tool_calls import ToolCallParser
from minivault.service.calls import Calls
from minivault.service.deadline import abort_after, remaining
from minivault.service.earlier import fingerprint_of
from minivault.service.named import too_complex
from minivault.service.prepared import Prepared, pin_of
from minivault.service.preparing import guessed_prompt
from minivault.service.repeat import RecordedTokens
from minivault.vault.record import Outcome, Receipt


class Generation:
    """A request on its way. Those that are handed out have a durable intent, and their sequence is in the engine.

    Iterate :meth:`chunks` once, and call :meth:`close` in any case: whoever leaves early leaves a cancelled record.
    """

    intent: RecordRef

    def __init__(self, calls: Calls, prepared: Prepared) -> None:
        sampling = prepared.sampling
        self._calls = calls
        self._prepared = prepared
        self._tokens: TokenStream | None = None
        self._text = AnswerText(prepared.model.tokenizer.decoder(), sampling.stop, sampling.min_tokens)
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._made = 0
        """Tokens that came from the engine, sent or not."""
        self._speaks_text = prepared.model.engine.info.speaks_text
        self._counted: Usage | None = None
        self._abandoned = False
        self._abort: MiniVaultError | None = None
        self._refused: Exception | None = None
        self._reason: FinishReason | None = None
        self._engine_error: str | None = None
        self._outcome: asyncio.Future[Receipt] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._queue_ns = 0
        self._first_token_ns: int | None = None
        self._first_made_ns = 0
        self._step_ns = 0
        self._timings: dict[str, int] = {}
        self._observe_step = calls.metrics.step_observer(self.model, prepared.model.engine.info.name)
        self._from_index = None if prepared.recorded is None else prepared.recorded.index
        self.id = prepared.request.request_id
        """Under which the call is on record: the request's own, unless another call had that already."""

    @property
    def model(self) -> str:
        return self._prepared.model.name

    @property
    def seed(self) -> int:
        return self._prepared.sampling.seed or 0

    @property
    def wants_logprobs(self) -> bool:
        return self._prepared.sampling.logprobs is not None

    @property
    def fingerprint(self) -> str:
        """Stays the same as long as weights, tokenizer, template and engine do."""
        return fingerprint_of(asdict(pin_of(self._prepared.model)))

    @property
    def choice(self) -> int:
        """Which of the answers to its request it is."""
        return self._prepared.request.choice

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the model is given."""
        return len(self._prepared.prompt_token_ids)

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        """What the model is given."""
        return self._prepared.prompt_token_ids

    @property
    def timings(self) -> Mapping[str, int]:
        """Nanoseconds, as recorded; empty before the end."""
        return self._timings

    @property
    def prompt_text(self) -> str:
        """The words of the caller, as they are recorded."""
        return self._prepared.prompt_text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens sent so far; none of an engine that speaks text, whose numbers mean nothing elsewhere."""
        return () if self._speaks_text else tuple(self._token_ids)

    @property
    def usage(self) -> Usage:
        """What the model was given and what was sent, in tokens; of an engine that speaks text, as that counts."""
        if self._counted is not None:
            return self._counted
        return Usage(len(self._prepared.prompt_token_ids), len(self._token_ids))

    @property
    def tokenizer(self) -> PromptTokenizer:
        """What turns the answer's tokens into text; for log-probabilities."""
        return self._prepared.model.tokenizer

    def answer_parser(self) -> ToolCallParser | None:
        """A fresh parser of the answer's text; ``None`` where it neither reasons nor calls tools."""
        calling = self._prepared.calling
        return answer_parser(self._prepared.reasoning, None if calling is None else calling.parser(self.id))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; for log-probabilities."""
        return self.tokenizer.token_bytes(token_id)

    def run_ahead(self) -> None:
        """Hand the sequence to an engine of this process. What a server behind is asked has a durable intent first."""
        if self._speaks_text:
            return
        try:
            self.submit()
        except Exception as error:
            self._refused = error  # told by submit(), when the call is on record

    def recorded(self, intent: Receipt) -> None:
        self.intent = RecordRef(intent.index, intent.leaf, self._from_index)
        self.id = intent.call_id or self.id

    def give_up(self) -> None:
        """There is no record of this call, so nothing of it may be shown."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._stop_engine()

    def submit(self) -> None:
        """Hand the sequence to the engine, or take the answer that is on record, unless that is done.

        Raises:
            MiniVaultError: the engine refused it, or the call was aborted before the engine was asked.
        """
        if self._refused is not None:
            raise self._refused
        if self._tokens is not None:
            return  # one that was aborted ends for its reader
        if self._abort is not None:
            raise self._abort
        prepared = self._prepared
        self._queue_ns = self._calls.now_ns() - prepared.begun_ns
        if prepared.recorded is not None:
            self._tokens = RecordedTokens(prepared.recorded)
            return
        words = self.tokenizer
        self._tokens = prepared.model.engine.submit(
            EngineRequest(
                request_id=self.id,
                prompt_token_ids=prepared.prompt_token_ids,
                sampling=prepared.sampling,
                eos_token_ids=prepared.model.eos_token_ids,
                cache_salt=prepared.caller.cache_salt,
                fairness_key=prepared.caller.fairness_key,
                constraint=prepared.constraint,
                asked=prepared.request if self._speaks_text else None,
                words=words if isinstance(words, Lexicon) else None,
            )
        )
        left = remaining(prepared.limit, prepared.begun_ns, self._calls.now_ns())
        if prepared.limit is not None and left is not None:
            self._deadline = abort_after(self, prepared.limit, left)

    async def accepted(self) -> None:
        """Wait for an engine that may refuse a sequence after it was submitted; others have taken it already.

        Raises:
            MiniVaultError: it was refused.
        """
        if isinstance(self._tokens, Answering):
            await self._tokens.accepted()

    async def fail(self, error: Exception) -> None:
        """Record a call that the engine did not take."""
        await self._conclude(FinishReason.FAILED, _safe_message(error))

    async def result(self) -> Completion:
        """Run to the end. The answer's finish reason is ``cancelled`` when :meth:`abandon` was called meanwhile.

        Raises:
            EngineFailed: the engine broke.
            InvalidRequest: the answer's grammar became too complex to follow.
            Draining: the server shut down before the end.
            LedgerUnavailable: the outcome could not be made durable, so there is no answer.
        """
        completion: Completion | None = None
        async for chunk in self.chunks():
            completion = chunk.completion
        if completion is None:
            raise EngineFailed("The generation ended without an outcome.")
        return completion

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """The pieces, then one empty chunk with the completion, once the outcome is durable. Raises as ``result``."""
        try:
            if self._prepared.request.echo:
                yield Chunk(self.prompt_text, choice=self.choice)
            assert self._tokens is not None  # noqa: S101 - submit() comes before a Generation is handed out
            async for step in self._tokens:
                self._made += len(step.token_ids)
                if self._abandoned or self._abort is not None:
                    break
                chunk = self._take(step)
                if chunk is not None:
                    yield chunk
                if self._reason is not None:
                    break
            error, reason = self._ending()
        except MiniVaultError as failure:
            error, reason = failure, FinishReason.FAILED
        except Exception as failure:
            await self.fail(failure)
            raise
        completion = await self._conclude(reason, error.message if error else None)
        if error is not None:
            raise error
        yield Chunk("", completion=completion, choice=self.choice)

    def _take(self, step: TokenStep) -> Chunk | None:
        """What a step of the engine has to show; ``None`` where it is all held back. Handed out counts as sent."""
        self._note_step(step)
        piece, self._reason = self._read(step)
        self._engine_error = step.error
        self._counted = step.usage or self._counted
        self._token_ids.extend(piece.token_ids)
        if not piece.text and not piece.logprobs:
            return None
        self._texts.append(piece.text)
        self._logprobs.extend(piece.logprobs)
        return Chunk(piece.text, piece.token_ids, piece.logprobs, choice=self.choice)

    def _read(self, step: TokenStep) -> tuple[Piece, FinishReason | None]:
        """Decode a step; a stop string ends the sequence, and so does whatever ended it in the engine."""
        piece = self._text.push(step.token_ids, step.logprobs)
        reason = step.finish_reason
        if self._text.stopped:
            if reason is None and self._tokens is not None:
                self._tokens.cancel()
            return piece, FinishReason.STOP
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            tail = self._text.finish()
            piece = Piece(piece.text + tail.text, piece.token_ids + tail.token_ids, piece.logprobs + tail.logprobs)
            reason = FinishReason.STOP if self._text.stopped else reason
        return piece, reason

    def _ending(self) -> tuple[MiniVaultError | None, FinishReason]:
        if self._abandoned:
            return None, FinishReason.CANCELLED
        if self._abort is not None:
            return self._abort, FinishReason.FAILED
        if self._reason in (FinishReason.STOP, FinishReason.LENGTH):
            return None, self._reason
        if self._engine_error == GRAMMAR_TOO_COMPLEX:
            one = self._prepared
            return too_complex(one.request, one.calling, one.structure), FinishReason.FAILED
        return EngineFailed(self._engine_error or "The engine stopped before the answer ended."), FinishReason.FAILED

    def abandon(self) -> None:
        """The caller is gone: stop at the next step and record what was sent. Idempotent."""
        self._abandoned = True
        self._stop_engine()

    def abort(self, error: MiniVaultError) -> None:
        """This side must stop: the reader of :meth:`chunks` gets ``error`` once the outcome is durable."""
        self._abort = self._abort or error
        self._stop_engine()

    def close(self) -> None:
        """Record a call that nobody reads any more as cancelled. Does nothing when the outcome is on its way."""
        if self._outcome is None:
            self._record(FinishReason.CANCELLED, None)

    def _stop_engine(self) -> None:
        if self._tokens is not None:
            self._tokens.cancel()

    def _note_step(self, step: TokenStep) -> None:
        if not step.token_ids:
            return
        now = self._calls.now_ns()
        if self._first_token_ns is None:
            self._first_token_ns = now - self._prepared.begun_ns
            self._first_made_ns = (step.made_ns or now) - self._prepared.begun_ns
            self._prepared.place.release()
        elif self._from_index is None:  # else no engine has made a step
            self._observe_step((now - self._step_ns) / 1e9 / len(step.token_ids))
        self._step_ns = now

    async def _conclude(self, reason: FinishReason, error: str | None) -> Completion:
        """Point of no return: after this the call is finished, and on the record."""
        receipt = await asyncio.shield(self._record(reason, error))
        prompt = self.prompt_text if self._prepared.request.echo else ""
        return Completion(
            id=self.id,
            model=self.model,
            response=prompt + "".join(self._texts),
            finish_reason=reason,
            usage=self.usage,
            seed=self.seed,
            generated_at=self._calls.utc_now(),
            record=RecordRef(receipt.index, receipt.leaf, self._from_index),
            logprobs=tuple(self._logprobs),
            token_ids=self.token_ids,
            choice=self.choice,
            stop_sequence=self._text.stop_sequence,
        )

    def _record(self, reason: FinishReason, error: str | None) -> asyncio.Future[Receipt]:
        """Append the outcome, once. A whole answer that was not delivered was not sent, so none of it is recorded."""
        if self._outcome is not None:
            return self._outcome
        if self._deadline is not None:
            self._deadline.cancel()
        if reason in (FinishReason.CANCELLED, FinishReason.FAILED):
            self._stop_engine()  # also where it was not the engine that failed: it would go on for nobody
        used = self._used(reason)
        undelivered = not self._prepared.request.stream and reason in (FinishReason.CANCELLED, FinishReason.FAILED)
        if undelivered:
            self._texts.clear()
            self._token_ids.clear()
            self._counted = None
        total_ns = self._calls.now_ns() - self._prepared.begun_ns
        timings = {"queue_ns": self._queue_ns, "total_ns": total_ns}
        if self._first_token_ns is not None:
            timings["first_token_ns"] = self._first_token_ns
            timings["decode_ns"] = max(0, total_ns - self._first_made_ns)
        self._timings = timings
        outcome = Outcome(
            intent_index=self.intent.index,
            finish_reason=reason.value,
            response_text="".join(self._texts),
            response_token_ids=self.token_ids,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            timings=timings,
            error=error,
        )
        self._outcome = self._calls.append_outcome(self, self._prepared, outcome, used)
        return self._outcome

    def _used(self, reason: FinishReason) -> int:
        """Tokens that count for the caller's windows: what was made, whether anybody got it or not."""
        usage = self.usage
        stopped = reason is FinishReason.CANCELLED or self._abort is not None
        made = self._made
        if stopped and isinstance(self._tokens, Answering):
            made += self._tokens.unread()
        worked = made > 0 or (stopped and self._tokens is not None)
        prompt = usage.prompt_tokens or (guessed_prompt(self._prepared) if worked else 0)
        # A server's own count is better than that of its pieces, but comes with the end alone.
        return prompt + (made if self._counted is None else usage.completion_tokens)


def _safe_message(error: Exception) -> str:
    """Only our own errors' messages are sure to hold nothing of what was sent."""
    return error.message if isinstance(error, MiniVaultError) else "internal error"
