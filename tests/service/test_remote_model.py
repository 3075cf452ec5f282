"""A model that other servers run, behind the service and every surface: what is recorded, counted, told and refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from minivault.access.caller import Caller
from minivault.access.limits import Limits, Quota
from minivault.access.windows import MemoryWindows
from minivault.api.app import create_app
from minivault.engine.engine import Answering
from minivault.engine.remote.engine import RemoteEngine
from minivault.errors import EngineFailed, InvalidRequest, Overloaded, RateLimited, UnsupportedFeature
from minivault.generation import FinishReason, GenerationRequest, Message, SamplingParams, Usage
from minivault.models.loaded_remote import RemoteModel
from minivault.models.remote_config import RemoteConfig
from minivault.service import ReplayVerdict, Service
from minivault.settings import Settings
from minivault.vault.ledger import Ledger
from minivault.vault.reader import Reader
from minivault.vault.verify import verify
from tests.access.clock import Clock
from tests.engine.upstream import Reply, ScriptedUpstream, delta, events, refuses, says, serving, waits_for
from tests.fake_ledger import MemoryLedger
from tests.fakes import FakeModels, until

CALLER = Caller("10.0.0.1")
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@dataclass
class Far:
    """A service over a remote engine over a server with a script."""

    upstream: ScriptedUpstream
    engine: RemoteEngine
    models: FakeModels
    ledger: Any
    service: Service

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(Settings(rate_limit=""), service=self.service)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost:8000") as client:
            yield client


@asynccontextmanager
async def far(*script: Reply, ledger: Any = None, reader: Any = None, **config: Any) -> AsyncIterator[Far]:
    async with serving(*script) as upstream:
        engine = RemoteEngine(RemoteConfig((upstream.url,), "theirs", health_interval=3600, **config))
        models = FakeModels(cast(Any, RemoteModel("far", engine)))
        ledger = ledger or MemoryLedger()
        try:
            yield Far(upstream, engine, models, ledger, Service(models, ledger, reader or ledger))
        finally:
            await engine.close()
    assert models.leases == 0


def ask(prompt: str = "hi", *, stream: bool = False, **request: Any) -> GenerationRequest:
    return GenerationRequest(messages=(Message("user", prompt),), request_id="one", stream=stream, **request)


async def test_an_answer_is_recorded_with_the_servers_counts_and_without_token_ids() -> None:
    async with far(says("Hel", "lo", usage=(11, 2))) as bench:
        answer = await bench.service.generate(ask(), CALLER)
    assert (answer.response, answer.usage, answer.token_ids) == ("Hello", Usage(11, 2), ())
    [intent], [outcome] = bench.ledger.intents, bench.ledger.outcomes
    assert (intent.pin.engine, intent.pin.exact, intent.prompt_text, intent.prompt_token_ids) == (
        "remote", False, "hi", ()
    )  # fmt: skip
    assert (outcome.response_text, outcome.response_token_ids) == ("Hello", ())
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (11, 2)


async def test_the_real_vault_holds_it_and_verifies_and_a_replay_proves_nothing(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "vault.db", mirror_dir=tmp_path / "logs")
    reader = Reader.open(tmp_path / "vault.db")
    async with far(says("Hello"), ledger=ledger, reader=reader) as bench:
        await bench.service.generate(ask(), CALLER)
        replay = await bench.service.replay("one", CALLER)
    assert (replay.verdict, replay.reason) == (
        ReplayVerdict.NOT_COMPARABLE,
        "the engine does not promise the same bytes for the same request",
    )
    assert (reader.get("one").call.response, reader.stats()["prompt_tokens"]) == ("Hello", 11)
    await asyncio.to_thread(ledger.close)
    assert verify(reader).ok
    reader.close()


async def test_what_was_not_given_is_left_to_the_server_and_seed_and_limit_are_ours() -> None:
    async with far() as bench:
        await bench.service.generate(ask(), CALLER)
    [body] = bench.upstream.bodies
    assert body["max_tokens"] == 256
    assert body["seed"] == bench.ledger.intents[0].parameters["seed"]
    assert "temperature" not in body
    assert bench.ledger.intents[0].parameters["temperature"] is None


async def test_a_stop_string_that_the_server_overlooks_is_met_here() -> None:
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": "one END two"})])
    async with far(endless) as bench:
        answer = await bench.service.generate(ask(sampling=SamplingParams(stop=("END",))), CALLER)
        async with asyncio.timeout(120):
            await bench.upstream.hung_up.wait()
    assert (answer.response, answer.finish_reason, answer.stop_sequence) == ("one ", FinishReason.STOP, "END")


async def test_who_leaves_hangs_up_on_the_server_and_what_was_sent_is_recorded() -> None:
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": "some"})])
    async with far(endless) as bench:
        stream = bench.service.stream(ask(stream=True), CALLER)
        assert (await anext(stream)).text == "some"
        await stream.aclose()
        async with asyncio.timeout(120):
            await bench.upstream.hung_up.wait()
        await until(lambda: bench.ledger.outcomes)
    [outcome] = bench.ledger.outcomes
    assert (outcome.finish_reason, outcome.response_text, outcome.completion_tokens) == ("cancelled", "some", 1)


async def test_who_leaves_before_the_server_took_the_request_is_recorded_too() -> None:
    async with far(waits_for(asyncio.Event(), says())) as bench:
        opening = asyncio.ensure_future(bench.service.open(ask(stream=True), CALLER))
        await until(lambda: bench.upstream.bodies)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: bench.ledger.outcomes)
    assert bench.ledger.outcomes[0].finish_reason == "cancelled"


async def test_a_busy_server_is_passed_on_as_such_before_the_stream_begins() -> None:
    async with far(refuses(503, headers=["retry-after: 17"])) as bench, bench.client() as client:
        body = {"model": "far", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        answer = await client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "17")
    assert bench.ledger.outcomes[0].finish_reason == "failed"


@pytest.mark.parametrize(
    ("failure", "error"),
    [(refuses(400), InvalidRequest), (refuses(500), EngineFailed), (refuses(429), Overloaded)],
    ids=["400", "500", "429"],
)
async def test_a_failure_is_told_and_recorded_without_the_servers_words(failure: Reply, error: type[Exception]) -> None:
    async with far(failure) as bench:
        with pytest.raises(error) as caught:
            await bench.service.generate(ask(), CALLER)
    assert "secret" not in str(caught.value)
    assert "secret" not in (bench.ledger.outcomes[0].error or "")


@pytest.mark.parametrize(
    ("request_of", "param"),
    [
        (GenerationRequest(prompt_token_ids=(1, 2)), "prompt"),
        (GenerationRequest(prompt="x", context=(1,)), "context"),
        (GenerationRequest(prompt="x", raw=True, system="s"), "system"),
        (ask(sampling=SamplingParams(min_tokens=9, max_tokens=3)), "min_tokens"),
    ],
    ids=["token ids", "context", "system beside raw", "min_tokens"],
)
async def test_what_cannot_be_passed_on_is_refused(request_of: GenerationRequest, param: str) -> None:
    async with far() as bench:
        with pytest.raises(InvalidRequest) as caught:
            await bench.service.generate(request_of, CALLER)
    assert caught.value.param == param
    assert (bench.upstream.bodies, bench.ledger.intents) == ([], [])


async def test_a_limit_of_tokens_guesses_the_prompt_and_is_settled_with_the_servers_counts() -> None:
    limits = Limits(MemoryWindows(Clock()))
    async with far(says("x", usage=(40, 10))) as bench:
        caller = Caller("10.0.0.1", quota=Quota.of(limits, "10.0.0.1", "", "100/hour"))
        await bench.service.generate(ask("word " * 16, sampling=SamplingParams(max_tokens=80)), caller)
        await bench.service.generate(ask(sampling=SamplingParams(max_tokens=50)), caller)
        with pytest.raises(RateLimited):
            await bench.service.generate(ask(sampling=SamplingParams(max_tokens=1)), caller)
    assert [body["max_tokens"] for body in bench.upstream.bodies] == [80, 50]


async def test_with_a_limit_of_tokens_an_answer_without_one_takes_what_is_left() -> None:
    limits = Limits(MemoryWindows(Clock()))
    unlimited: dict[str, Any] = {"fit": True, "sampling": SamplingParams(max_tokens=1_000_000)}
    async with far(says("x", usage=(40, 10)), says("x", usage=(40, 10))) as bench:
        caller = Caller("10.0.0.1", quota=Quota.of(limits, "10.0.0.1", "", "100/hour"))
        for _ in range(2):
            await bench.service.generate(ask(**unlimited), caller)
        with pytest.raises(RateLimited):
            await bench.service.generate(ask(**unlimited), caller)
    assert ["max_tokens" in body for body in bench.upstream.bodies] == [False, False]


async def test_what_a_server_made_for_nobody_counts_for_the_key_with_the_guessed_prompt() -> None:
    limits = Limits(MemoryWindows(Clock()))
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": "some"}), delta({"content": "more"})])
    async with far(endless) as bench:
        quota = Quota.of(limits, "10.0.0.1", "", "1000/day")
        call = await bench.service.open(ask("word " * 16), Caller("10.0.0.1", quota=quota))
        waiting = asyncio.ensure_future(call.result())
        await until(lambda: call.usage.completion_tokens == 2)
        call.abandon()
        await waiting
        (await quota.reserve(1)).settle(0)
    assert (bench.ledger.outcomes[0].prompt_tokens, bench.ledger.outcomes[0].completion_tokens) == (0, 0)
    assert quota.verdicts["tokens"].remaining + 1 == 1000 - 20 - 2


async def test_what_came_for_a_slow_reader_that_leaves_counts_too() -> None:
    limits = Limits(MemoryWindows(Clock()))
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": word}) for word in ("a", "b", "c")])
    async with far(endless) as bench:
        quota = Quota.of(limits, "10.0.0.1", "", "1000/day")
        call = await bench.service.open(ask("word " * 16), Caller("10.0.0.1", quota=quota))
        chunks = call.chunks()
        await anext(chunks)
        arrived = call._tokens
        assert isinstance(arrived, Answering)
        await until(lambda: arrived.unread() == 2)
        call.abandon()
        async for _ in chunks:
            pass
        (await quota.reserve(1)).settle(0)
    assert quota.verdicts["tokens"].remaining + 1 == 1000 - 20 - 3


async def test_what_a_model_has_of_context_is_the_most_that_an_answer_without_a_limit_takes() -> None:
    limits = Limits(MemoryWindows(Clock()))
    async with far(says("x"), context_length=60) as bench:
        caller = Caller("10.0.0.1", quota=Quota.of(limits, "10.0.0.1", "", "100/hour"))
        first = await bench.service.open(ask(fit=True, sampling=SamplingParams(max_tokens=1_000_000)), caller)
        with pytest.raises(RateLimited, match="40 are left"):
            await caller.quota.reserve(41)
        first.close()


async def test_tokens_are_not_counted_here() -> None:
    async with far() as bench:
        with pytest.raises(UnsupportedFeature):
            await bench.service.count_tokens(ask(), CALLER)


async def test_the_metrics_tell_of_each_server() -> None:
    async with far(says("x")) as bench:
        await bench.service.generate(ask(), CALLER)
        shown = bench.service.metrics.render().decode()
        address = f"127.0.0.1:{bench.upstream.port}"
    assert f'minivault_upstream_requests_total{{model_name="far",upstream="{address}"}} 1.0' in shown
    assert f'minivault_upstream_healthy{{model_name="far",upstream="{address}"}} 1.0' in shown
    assert 'vllm:prompt_tokens_total{engine="remote",model_name="far"} 11.0' in shown


# -- the surfaces

CALLS = events(
    delta({"content": "Well."}),
    delta({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "add", "arguments": '{"a": 1}'}}]}),
    delta({}, "tool_calls"),
)


async def test_openai_tells_calls_reasoning_and_log_probabilities() -> None:
    told = {"content": [{"token": "42", "logprob": -0.25, "bytes": [52, 50], "top_logprobs": []}]}
    thinks = events(
        delta({"reasoning_content": "hm"}), delta({"content": "It is "}), delta({"content": "42"}, logprobs=told),
        delta({}, "stop"),
    )  # fmt: skip
    body = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}
    async with far(CALLS, thinks) as bench, bench.client() as client:
        called = (await client.post("/v1/chat/completions", json=body | {"tools": [TOOL]})).json()["choices"][0]
        thought = (await client.post("/v1/chat/completions", json=body | {"logprobs": True})).json()["choices"][0]
    assert (called["finish_reason"], called["message"]["content"]) == ("tool_calls", "Well.")
    assert called["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert (thought["message"]["reasoning_content"], thought["message"]["content"]) == ("hm", "It is 42")
    assert thought["logprobs"]["content"][-1] == {
        "token": "42", "logprob": -0.25, "bytes": [52, 50], "top_logprobs": []
    }  # fmt: skip


async def test_several_answers_are_several_requests() -> None:
    body = {"model": "far", "messages": [{"role": "user", "content": "hi"}], "n": 2, "seed": 5}
    async with far(says("yes")) as bench, bench.client() as client:
        answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["yes", "yes"]
    assert sorted(sent["seed"] for sent in bench.upstream.bodies) == [5, 6]


async def test_ollama_streams_and_tells_calls() -> None:
    body = {"model": "far", "messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    async with far(CALLS) as bench, bench.client() as client:
        lines = [json.loads(line) for line in (await client.post("/api/chat", json=body)).text.splitlines()]
    calls = [call for line in lines for call in line["message"].get("tool_calls") or ()]
    assert calls[0]["function"] == {"name": "add", "arguments": {"a": 1}}
    assert lines[-1]["done"] is True


async def test_anthropic_answers_with_the_servers_counts() -> None:
    body = {"model": "far", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    async with far(says("Hello", usage=(11, 2))) as bench, bench.client() as client:
        answer = (await client.post("/v1/messages", json=body)).json()
    assert answer["content"] == [{"type": "text", "text": "Hello"}]
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (11, 2)


async def test_the_native_surface_takes_a_bare_prompt_to_completions() -> None:
    reply = events({"choices": [{"text": " there", "finish_reason": "stop"}]})
    async with far(reply) as bench, bench.client() as client:
        answer = (await client.post("/generate", json={"prompt": "hi", "raw": True, "echo": True})).json()
    assert answer["response"] == "hi there"
    assert bench.upstream.bodies[0]["prompt"] == "hi"
