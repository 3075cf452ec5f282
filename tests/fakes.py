"""Fakes with a script: an engine that says what it is told to, models, and a service over them.

Each has a test with the real thing beside it (``tests/service/test_real_parts.py``).
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minivault.engine.engine import EngineInfo, EngineRequest, EngineStats, TokenStep, UpstreamStats
from minivault.errors import MiniVaultError, UnknownModel
from minivault.generation import FinishReason, Message, TokenLogprob
from minivault.models.pooled import ModelState, state_of
from minivault.service import Service
from minivault.vault.record import Outcome
from tests.fake_ledger import MemoryLedger

SPECIAL = 256
"""A token that gives no text."""


class ByteTokenizer:
    """One token a byte; ids from 256 on are special and give no text."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return ([SPECIAL] if add_special_tokens else []) + list(text.encode())

    def decoder(self) -> ByteDecoder:
        return ByteDecoder()

    def token_bytes(self, token_id: int, /) -> bytes:
        return bytes([token_id]) if token_id < SPECIAL else b""

    def token_text(self, token_id: int, /) -> str:
        return "<s>" if self.is_special(token_id) else self.token_bytes(token_id).decode("utf-8", "replace")

    def is_special(self, token_id: int, /) -> bool:
        return token_id >= SPECIAL


class ByteDecoder:
    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Sequence[int], /) -> str:
        return self._utf8.decode(bytes(token for token in ids if token < SPECIAL))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class TurnTemplate:
    """``<role>content`` for each turn, then ``<assistant>``."""

    dialect = None

    def __init__(self, *, reasons: bool = False) -> None:
        self.reasons = reasons

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        think: bool | None = None,
    ) -> str:
        closed = "<think></think>" if self.reasons and think is False else ""
        return "".join(f"<{turn.role}>{turn.content}" for turn in messages) + "<assistant>" + closed


Answer = Callable[[EngineRequest], Iterable[TokenStep]]


def says(text: str, *, at_once: int = 1, end: FinishReason = FinishReason.STOP, logprobs: bool = False) -> Answer:
    """An answer of ``text``, ``at_once`` bytes a step, cut at ``max_tokens`` as an engine cuts it."""

    def answer(request: EngineRequest) -> Iterable[TokenStep]:
        limit = request.sampling.max_tokens or 0
        data = text.encode()
        reason = end if len(data) < limit else FinishReason.LENGTH
        data = data[:limit]
        for start in range(0, len(data), at_once):
            ids = tuple(data[start : start + at_once])
            chosen = tuple(TokenLogprob(token, -0.5, ((token, -0.5), (0, -3.0))) for token in ids)
            yield TokenStep(ids, chosen if logprobs else ())
        yield TokenStep((), finish_reason=reason)

    return answer


def breaks_after(text: str, error: str = "the engine broke") -> Answer:
    """An answer that fails after ``text``."""

    def answer(_request: EngineRequest) -> Iterable[TokenStep]:
        yield TokenStep(tuple(text.encode()))
        yield TokenStep((), finish_reason=FinishReason.FAILED, error=error)

    return answer


def echoes_seed(request: EngineRequest) -> Iterable[TokenStep]:
    """An answer that is a function of prompt, parameters and seed, as an exact engine's is."""
    sampling = request.sampling
    key = repr((request.prompt_token_ids, sampling.seed, sampling.temperature)).encode()
    text = f" héllo\n{hashlib.sha256(key).hexdigest()} ✓ wörld"
    return says(text, at_once=3)(request)


class ScriptedStream:
    def __init__(self, steps: Iterable[TokenStep], gate: asyncio.Event | None, gate_after: int) -> None:
        self._steps = iter(steps)
        self._gate = gate
        self._gate_after = gate_after
        self._cancelled = asyncio.Event()
        self.given = 0
        """Steps so far."""

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    async def __aiter__(self) -> AsyncIterator[TokenStep]:
        for step in self._steps:
            await asyncio.sleep(0)
            if self._gate is not None and self.given >= self._gate_after:
                await self._gate_or_cancel(self._gate)
            if self.cancelled:
                yield TokenStep((), finish_reason=FinishReason.CANCELLED)
                return
            self.given += 1
            yield step

    async def _gate_or_cancel(self, gate: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(gate.wait()), asyncio.ensure_future(self._cancelled.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class ScriptedEngine:
    """Answers by its script. With ``hold_after``, each stream waits after so many steps until ``release``."""

    def __init__(self, answer: Answer = echoes_seed, *, context_length: int = 1024, exact: bool = True) -> None:
        self.info = EngineInfo(
            name="scripted",
            build="1",
            arithmetic="bytes-v1",
            exact=exact,
            context_length=context_length,
            vocab_size=257,
        )
        self.answer = answer
        self.hold_after: int | None = None
        self.gate = asyncio.Event()
        self.refuses: MiniVaultError | None = None
        self.requests: list[EngineRequest] = []
        self.streams: list[ScriptedStream] = []
        self.submitted = asyncio.Event()
        self.upstreams: tuple[UpstreamStats, ...] = ()

    def submit(self, request: EngineRequest) -> ScriptedStream:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append(request)
        held = self.hold_after is not None
        stream = ScriptedStream(self.answer(request), self.gate if held else None, self.hold_after or 0)
        self.streams.append(stream)
        self.submitted.set()
        return stream

    def release(self) -> None:
        self.gate.set()

    failure: BaseException | None = None

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self.streams), waiting=0, kv_cache_usage=0.25, upstreams=self.upstreams)

    async def close(self) -> None:
        for stream in self.streams:
            stream.cancel()


@dataclass
class FakeModel:
    """A model of :class:`ByteTokenizer`; without a template it takes bare prompts."""

    engine: Any
    name: str = "fake"
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    chat_template: TurnTemplate | None = None
    generation_defaults: Mapping[str, Any] = field(default_factory=dict)
    eos_token_ids: tuple[int, ...] = (SPECIAL,)
    weights_digest: str = "sha256:00"
    tokenizer_digest: str = "sha256:01"
    template_digest: str = "sha256:02"
    grammars: Any = None
    kind: str = "generation"
    memory_bytes: int = 1000

    @property
    def broken(self) -> bool:
        return self.engine.failure is not None

    async def close(self) -> None:
        await self.engine.close()


class FakeLease:
    """Counted by its models: what is not released is a leak."""

    def __init__(self, models: FakeModels, model: FakeModel) -> None:
        self.model = model
        self._models = models
        self._released = False
        models.leases += 1

    def again(self) -> FakeLease:
        assert not self._released
        return FakeLease(self._models, self.model)

    def release(self) -> None:
        self._models.leases -= not self._released
        self._released = True


@dataclass
class FakeModels:
    """One model, or the error that stands in its way."""

    model: FakeModel
    error: MiniVaultError | None = None
    leases: int = 0
    keep_alives: list[float | None] = field(default_factory=list)
    unloaded: bool = False
    gate: asyncio.Event | None = None
    """While it is not set, the model loads."""
    waiting: int = 0
    """How many have waited for the gate."""
    gave_up: int = 0
    """How many of them were cancelled."""
    drained: bool = False
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def default_name(self) -> str:
        return self.model.name

    async def acquire(self, name: str | None, keep_alive: float | None = None) -> FakeLease:
        if name not in (None, self.model.name):
            raise UnknownModel("There is no such model; the closest is fake.", param="model")
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.gave_up += 1
                raise
        if self.error is not None:
            raise self.error
        self.keep_alives.append(keep_alive)
        return FakeLease(self, self.model)

    @contextlib.asynccontextmanager
    async def lease(self, name: str | None, keep_alive: float | None = None) -> AsyncIterator[FakeModel]:
        lease = await self.acquire(name, keep_alive)
        try:
            yield lease.model
        finally:
            lease.release()

    async def load(self, name: str | None, keep_alive: float | None = None) -> None:
        (await self.acquire(name, keep_alive)).release()
        self.unloaded = False

    async def unload(self, name: str) -> bool:
        self.unloaded, was = True, self.unloaded
        return not was

    def drain(self) -> None:
        self.drained = True

    def not_ready_because(self) -> str | None:
        return None if self.error is None else self.error.message

    def states(self) -> dict[str, dict[str, Any]]:
        if self.error is not None or self.unloaded:
            return {}
        return {self.model.name: state_of(ModelState.LOADED, memory_bytes=self.model.memory_bytes)}

    def loaded(self) -> list[FakeModel]:
        return [] if self.error is not None or self.unloaded else [self.model]

    def listing(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        card = [
            {
                "name": self.model.name,
                "default": True,
                "embedded": True,
                "family": "llama",
                "kind": self.model.kind,
                "engine": "native",
                "parameters": 1,
                "size_bytes": 1,
                "digest": self.model.weights_digest,
                "imported_at": None,
                "modified_at": "2026-01-01T00:00:00.000Z",
            }
        ]
        return card, self.damaged

    def describe(self, name: str) -> dict[str, Any]:
        if name != self.model.name:
            raise UnknownModel("There is no such model; the closest is fake.", param="model")
        sizes = {"hidden_size": 4, "layers": 1, "attention_heads": 2, "kv_heads": 1, "vocab_size": 257}
        info = self.model.engine.info
        more = {"context_length": info.context_length, "template": ""}
        return self.listing()[0][0] | sizes | more


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until ``condition``; the test's own time limit ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


@dataclass
class Bench:
    """A service over fakes, and the fakes."""

    engine: ScriptedEngine
    model: FakeModel
    models: FakeModels
    ledger: MemoryLedger
    service: Service

    @property
    def outcome(self) -> Outcome:
        """The only outcome."""
        assert len(self.ledger.outcomes) == 1
        return self.ledger.outcomes[0]


def make_bench(answer: Answer = echoes_seed, *, template: bool = False, **service: Any) -> Bench:
    engine = ScriptedEngine(answer)
    model = FakeModel(engine, chat_template=TurnTemplate() if template else None)
    models = FakeModels(model)
    ledger = MemoryLedger()
    return Bench(engine, model, models, ledger, Service(models, ledger, ledger, **service))
