"""A ledger and its reader in memory, which fail and hold when they are told to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from minivault.errors import LedgerUnavailable, UnknownRecord
from minivault.vault.export import ExportForm
from minivault.vault.reader import Call, CallDetail, CallFilter, Page
from minivault.vault.record import Erasure, Intent, Outcome, Receipt


@dataclass
class _State:
    records: int
    tree_size: int
    writable: bool
    reason: str | None
    signed_at: str | None = None
    open_calls: int = 0
    head_size: int = 0
    head_error: str | None = None
    mirror_error: str | None = None


class MemoryLedger:
    """Keeps records in a list. ``faults`` is the script: the kinds (``intent``, ``outcome``) whose next append fails.
    With ``hold``, receipts wait until :meth:`release`."""

    def __init__(self) -> None:
        self.intents: list[Intent] = []
        self.outcomes: list[Outcome] = []
        self.erasures: list[Erasure] = []
        self._erased_by: dict[int, tuple[int, ...]] = {}
        self.faults: list[str] = []
        self.altered: set[int] = set()
        """Calls of which something else is on record than what was committed to."""
        self.hold = False
        self.writable = True
        self._size = 0
        self._indexes: dict[int, Intent] = {}
        self._ended: dict[int, int] = {}
        self._held: list[tuple[Future[Receipt], Receipt]] = []

    def append_intent(self, intent: Intent, /) -> Future[Receipt]:
        if self._fails("intent"):
            return _failed()
        self.intents.append(intent)
        self._indexes[self._size] = intent
        return self._receipt()

    def append_outcome(self, outcome: Outcome, /) -> Future[Receipt]:
        assert outcome.intent_index in self._indexes
        assert all(outcome.intent_index != other.intent_index for other in self.outcomes), "an outcome came twice"
        if self._fails("outcome"):
            return _failed()
        self.outcomes.append(outcome)
        self._ended[outcome.intent_index] = self._size
        return self._receipt()

    def append_outcomes(self, outcomes: Sequence[Outcome], /) -> list[Future[Receipt]]:
        return [self.append_outcome(outcome) for outcome in outcomes]

    def append_erasure(self, erasure: Erasure, /) -> Future[Receipt]:
        self.erasures.append(erasure)
        self._erased_by[self._size] = erasure.intents
        return self._receipt()

    def status(self) -> _State:
        reason = None if self.writable else "the disk is full"
        return _State(len(self.intents), self._size, self.writable, reason)

    def release(self, count: int | None = None) -> None:
        """All from now on, or the oldest ``count`` of those that are held."""
        self.hold = count is not None
        held, self._held = self._held[:count], [] if count is None else self._held[count:]
        for future, receipt in held:
            future.set_result(receipt)

    def break_held(self) -> None:
        """Nothing that is held becomes durable."""
        self.hold = False
        held, self._held = self._held, []
        for future, _ in held:
            future.set_exception(LedgerUnavailable("the disk is gone"))

    def intent_of(self, outcome: Outcome) -> Intent:
        return self._indexes[outcome.intent_index]

    def _fails(self, kind: str) -> bool:
        if self.faults and self.faults[0] == kind:
            self.faults.pop(0)
            return True
        return False

    def _receipt(self) -> Future[Receipt]:
        receipt = Receipt(self._size, hashlib.sha256(str(self._size).encode()).hexdigest())
        self._size += 1
        future: Future[Receipt] = Future()
        if self.hold:
            self._held.append((future, receipt))
        else:
            future.set_result(receipt)
        return future

    # What a reader would give.

    def list(self, filters: CallFilter | None = None, *, cursor: str | None = None, limit: int = 50) -> Page:
        calls = [self.get(index).call for index in sorted(self._indexes, reverse=True)]
        return Page(tuple(calls[:limit]), None)

    def get(self, id_or_index: str | int, /, *, owner: str | None = None) -> CallDetail:
        for index, intent in self._indexes.items():
            if str(id_or_index) in (intent.request_id, str(index)) and owner in (None, intent.api_key_id):
                return self._detail(index, intent)
        raise UnknownRecord("no such record in the vault")

    def erased_calls(
        self, prefix: str, after: str = "", *, limit: int = 1000
    ) -> tuple[tuple[tuple[str, str | None], ...], str]:
        done = int(after or 0)
        erased = [self._indexes[index] for erasure in self.erasures[done:] for index in erasure.intents]
        found = ((one.request_id, one.api_key_id) for one in erased if one.request_id.startswith(prefix))
        return tuple(found), str(len(self.erasures) or "")

    def erased_by(self, index: int, /) -> tuple[int, ...]:
        return self._erased_by[index]

    def raw_request(self, index: int, /) -> bytes | None:
        intent = self._indexes[index]
        erased = any(index in erasure.intents for erasure in self.erasures)
        return intent.raw_request if intent.store and not erased else None

    def is_sound(self, index: int, /) -> bool:
        return index not in self.altered

    def repeats(self, repeat_key: int, /, *, owner: str | None = None) -> tuple[CallDetail, ...]:
        return tuple(
            self._detail(index, intent)
            for index, intent in self._indexes.items()
            if intent.repeat_key == repeat_key and index in self._ended and owner in (None, intent.api_key_id)
        )

    def stats(self, filters: CallFilter | None = None) -> dict[str, Any]:
        return {
            "calls": len(self.intents),
            "open_calls": len(self.intents) - len(self.outcomes),
            "prompt_tokens": sum(outcome.prompt_tokens for outcome in self.outcomes),
            "completion_tokens": sum(outcome.completion_tokens for outcome in self.outcomes),
        }

    def erasable(self, filters: CallFilter | None = None, *, after: int = -1, limit: int = 64) -> tuple[int, ...]:
        return tuple(outcome.intent_index for outcome in self.outcomes if outcome.intent_index > after)[:limit]

    def head(self) -> tuple[str, str]:
        raise UnknownRecord("no head was signed yet")

    def proof(self, id_or_index: str | int, /, *, owner: str | None = None) -> str:
        return f"proof of {self.get(id_or_index, owner=owner).call.index}\n"

    def export(self, form: ExportForm, filters: CallFilter | None = None) -> Iterator[bytes]:
        yield from (f"{form} of {call.index}\n".encode() for call in self.list(filters).calls)

    def sign_head(self) -> Future[int]:
        future: Future[int] = Future()
        future.set_result(2 * len(self.intents))
        return future

    def _detail(self, index: int, intent: Intent) -> CallDetail:
        outcome = next((other for other in self.outcomes if other.intent_index == index), None)
        call = Call(
            index=index,
            outcome_index=self._ended.get(index),
            id=intent.request_id,
            time_ns=0,
            model=intent.pin.model,
            surface=intent.surface,
            source=intent.source,
            api_key_id=intent.api_key_id,
            mode=intent.mode,
            store=intent.store,
            finish_reason=outcome.finish_reason if outcome else None,
            prompt_tokens=len(intent.prompt_token_ids),
            completion_tokens=outcome.completion_tokens if outcome else None,
            duration_ns=0,
            prompt=intent.prompt_text,
            response=outcome.response_text if outcome else None,
        )
        pin = {name: getattr(intent.pin, name) for name in intent.pin.__dataclass_fields__}
        return CallDetail(
            call=call,
            intent={"pin": pin, "parameters": dict(intent.parameters), "ignored": list(intent.ignored)},
            intent_leaf="0" * 64,
            outcome={"timings": dict(outcome.timings), "error": outcome.error} if outcome else None,
            outcome_leaf="1" * 64 if outcome else None,
            prompt_token_ids=tuple(intent.prompt_token_ids) if intent.store else None,
            response_token_ids=tuple(outcome.response_token_ids) if outcome and intent.store else None,
        )


def _failed() -> Future[Receipt]:
    future: Future[Receipt] = Future()
    future.set_exception(LedgerUnavailable("The record could not be made durable.", retry_after=1))
    return future
