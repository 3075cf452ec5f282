"""Embeddings, counts and replays keep the same limits of time and of waiting tokens as answers do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.embedding import EmbeddingRequest
from minivault.engine.embedding import EmbeddingInfo
from minivault.errors import DeadlineExceeded, Draining, EngineFailed, Overloaded
from minivault.generation import GenerationRequest
from minivault.service import ServiceLimits
from tests.api.client import client_of
from tests.fakes import Bench, make_bench, until
from tests.service.asking import TIMEOUTS

CALLER = Caller("test")
HURRIED = Caller("test", timeout=0.05)
TEXT = EmbeddingRequest(texts=("hi",))


class ScriptedJob:
    """Waits until it is let go or cancelled."""

    def __init__(self, count: int, gate: asyncio.Event, error: Exception | None) -> None:
        self._count = count
        self._gate = gate
        self._error = error
        self.cancelled = False

    async def vectors(self) -> tuple[bytes, ...]:
        await self._gate.wait()
        if self.cancelled:
            raise EngineFailed("left out")
        if self._error is not None:
            raise self._error
        return (bytes(8),) * self._count

    def cancel(self) -> None:
        self.cancelled = True
        self._gate.set()


class ScriptedEmbedder:
    embedding = EmbeddingInfo(2, 100, True, "sha256:03")

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.jobs: list[ScriptedJob] = []

    def embed(self, texts: Sequence[Sequence[int]], *, fairness_key: str = "") -> ScriptedJob:
        del fairness_key
        self.jobs.append(ScriptedJob(len(texts), self.gate, self.error))
        return self.jobs[-1]


def embedding_bench(**fields: Any) -> tuple[Bench, ScriptedEmbedder]:
    bench, embedder = make_bench(**fields), ScriptedEmbedder()
    bench.model.embedder = embedder  # type: ignore[attr-defined]
    return bench, embedder


async def test_an_embedding_that_takes_too_long_fails_and_is_recorded_as_failed() -> None:
    for seconds in TIMEOUTS:
        bench, embedder = embedding_bench()
        with pytest.raises(DeadlineExceeded, match=f"{seconds:g} seconds"):
            await bench.service.embed(TEXT, Caller("test", timeout=seconds))
        if embedder.jobs:
            break
    assert embedder.jobs[0].cancelled
    assert bench.outcome.finish_reason == "failed"
    assert f"{seconds:g} seconds" in (bench.outcome.error or "")
    assert bench.models.leases == 0


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/api/embed"])
async def test_an_embedding_that_takes_too_long_is_504(path: str) -> None:
    bench, _ = embedding_bench()
    async with client_of(bench) as client:
        body = {"model": "fake", "input": "hi"}
        response = await client.post(path, json=body, headers={"MiniVault-Timeout": "0.05"})
    assert response.status_code == 504
    assert "0.05 seconds" in response.text


async def test_what_waits_too_long_for_its_model_is_refused_without_a_record() -> None:
    bench, _ = embedding_bench()
    await bench.service.generate(GenerationRequest(prompt="hi", request_id="one"), CALLER)
    bench.models.gate = asyncio.Event()
    for work in (
        bench.service.embed(TEXT, HURRIED),
        bench.service.count_tokens(GenerationRequest(prompt="hi"), HURRIED),
        bench.service.replay("one", HURRIED),
    ):
        with pytest.raises(DeadlineExceeded):
            await work
    assert len(bench.ledger.intents) == 1


async def test_a_replay_that_takes_too_long_fails_and_is_recorded_as_failed() -> None:
    for seconds in TIMEOUTS:
        bench = make_bench()
        await bench.service.generate(GenerationRequest(prompt="hi", request_id="one"), CALLER)
        bench.engine.hold_after = 1
        with pytest.raises(DeadlineExceeded):
            await bench.service.replay("one", Caller("test", timeout=seconds))
        if len(bench.engine.streams) == 2:
            break
    assert bench.ledger.outcomes[-1].finish_reason == "failed"
    assert bench.models.leases == 0


async def test_the_tokens_of_embeddings_wait_in_the_same_line_and_leave_it() -> None:
    bench, embedder = embedding_bench(limits=ServiceLimits(max_waiting_tokens=5))
    first = asyncio.ensure_future(bench.service.embed(TEXT, CALLER))
    await until(lambda: embedder.jobs)
    with pytest.raises(Overloaded, match="tokens"):
        await bench.service.embed(TEXT, CALLER)
    with pytest.raises(Overloaded, match="tokens"):
        await bench.service.generate(GenerationRequest(prompt="hi"), CALLER)
    embedder.gate.set()
    await first
    await bench.service.embed(TEXT, CALLER)
    assert bench.models.leases == 0


async def test_a_count_takes_a_place_and_is_refused_while_the_server_shuts_down() -> None:
    bench = make_bench(limits=ServiceLimits(max_running=1, max_waiting=0))
    asked = GenerationRequest(prompt="hi")
    assert await bench.service.count_tokens(asked, CALLER) == 3
    bench.models.gate = asyncio.Event()
    waits = asyncio.ensure_future(bench.service.count_tokens(asked, CALLER))
    await until(lambda: bench.models.waiting)
    with pytest.raises(Overloaded):
        await bench.service.count_tokens(asked, CALLER)
    bench.models.gate.set()
    await waits
    await bench.service.drain(0)
    with pytest.raises(Draining):
        await bench.service.count_tokens(asked, CALLER)


async def test_an_embedding_that_breaks_is_recorded_as_failed_without_the_words_of_the_error() -> None:
    bench, embedder = embedding_bench()
    embedder.error = ValueError("secret text")
    embedder.gate.set()
    with pytest.raises(ValueError, match="secret"):
        await bench.service.embed(TEXT, CALLER)
    assert (bench.outcome.finish_reason, bench.outcome.error) == ("failed", "internal error")
    assert bench.models.leases == 0
