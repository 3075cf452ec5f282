"""The remote engine against servers with a script: each failure, and what the next server does about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.engine.engine import EngineRequest, TokenStep
from minivault.engine.remote.engine import RemoteEngine, RemoteStream
from minivault.engine.remote.upstream import Upstream, retry_after
from minivault.engine.remote.wire import Reading
from minivault.errors import ContextTooLong, EngineFailed, InvalidRequest, Overloaded
from minivault.generation import FinishReason, GenerationRequest, Message, SamplingParams, ToolCall, Usage
from minivault.models.lexicon import Lexicon
from minivault.models.remote_config import RemoteConfig
from tests.engine.upstream import (
    ScriptedUpstream,
    delta,
    events,
    garbles,
    hangs_up,
    refuses,
    says,
    send_head,
    serving,
    waits_for,
)
from tests.fakes import until

ASKED = GenerationRequest(messages=(Message("user", "hi"),))
SAMPLING = SamplingParams(max_tokens=64, seed=7)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@asynccontextmanager
async def engine_for(*upstreams: ScriptedUpstream | str, **config: Any) -> AsyncIterator[RemoteEngine]:
    urls = tuple(one if isinstance(one, str) else one.url for one in upstreams)
    given: dict[str, Any] = {"health_interval": 3600.0} | config
    key = given.pop("api_key", None)
    waiting = given.pop("max_waiting", 256)
    engine = RemoteEngine(RemoteConfig(urls, "theirs", **given), api_key=key, max_waiting=waiting)
    try:
        yield engine
    finally:
        await engine.close()


class Heard:
    """An answer read to its end."""

    def __init__(self, steps: list[TokenStep], words: Lexicon) -> None:
        self.steps = steps
        self.text = words.decoder().push([token for step in steps for token in step.token_ids])
        self.end = steps[-1]


def ask(
    engine: RemoteEngine, asked: GenerationRequest = ASKED, sampling: SamplingParams = SAMPLING
) -> tuple[RemoteStream, Lexicon]:
    words = Lexicon()
    return engine.submit(EngineRequest("id", (), sampling, asked=asked, words=words)), words


async def hear(engine: RemoteEngine, asked: GenerationRequest = ASKED, sampling: SamplingParams = SAMPLING) -> Heard:
    stream, words = ask(engine, asked, sampling)
    async with asyncio.timeout(30):
        return Heard([step async for step in stream], words)


async def closed_port() -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}/v1"


# -- what is said and heard


async def test_an_answer_comes_in_pieces_with_the_servers_own_counts() -> None:
    async with serving(says("Hel", "lo ✓")) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine)
    assert heard.text == "Hello ✓"
    assert (heard.end.finish_reason, heard.end.usage) == (FinishReason.STOP, Usage(11, 3))
    assert len(heard.steps) == 3


async def test_only_what_was_given_is_sent_on() -> None:
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine)
        sampling = replace(
            SAMPLING,
            temperature=0.0,
            top_k=4,
            repetition_penalty=1.1,
            stop=("END",),
            min_tokens=2,
            logit_bias=((5, -1.0),),
        )
        await hear(engine, sampling=sampling)
    plain, full = upstream.bodies
    assert plain == {
        "model": "theirs", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 64, "seed": 7,
        "messages": [{"role": "user", "content": "hi"}],
    }  # fmt: skip
    assert {name: full[name] for name in full.keys() - plain.keys()} == {
        "temperature": 0.0, "top_k": 4, "repetition_penalty": 1.1, "repeat_penalty": 1.1, "stop": ["END"],
        "min_tokens": 2, "logit_bias": {"5": -1.0},
    }  # fmt: skip


async def test_a_conversation_with_tools_is_sent_on_whole() -> None:
    turns = (
        Message("user", "1+2?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "add", '{"a": 1}'),), thinking="easy"),
        Message("tool", "3", tool_call_id="c1"),
    )
    asked = GenerationRequest(messages=turns, system="be brief", tools=(TOOL,), tool_choice="named:add", think=False)
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine, asked)
    body = upstream.bodies[0]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1+2?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
            "reasoning_content": "easy",
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]
    assert (body["tools"], body["tool_choice"]) == ([TOOL], {"type": "function", "function": {"name": "add"}})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


async def test_a_bare_prompt_goes_to_completions() -> None:
    reply = events({"choices": [{"index": 0, "text": " upon"}]}, {"choices": [{"text": "", "finish_reason": "length"}]})
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine, GenerationRequest(prompt="Once", raw=True))
    assert (heard.text, heard.end.finish_reason) == (" upon", FinishReason.LENGTH)
    sent = next(asked for asked in upstream.asked if asked.method == "POST")
    assert (sent.path, sent.body["prompt"]) == ("/v1/completions", "Once")


async def test_without_counts_the_pieces_are_counted() -> None:
    async with serving(says("a", "b", usage=None)) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).end.usage == Usage(0, 2)


async def test_a_form_is_asked_of_the_server() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with serving() as upstream, engine_for(upstream) as engine:
        await hear(engine, replace(ASKED, response_format=form))
    assert upstream.bodies[0]["response_format"] == form


async def test_calls_of_tools_become_the_text_that_every_surface_reads() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return delta({"tool_calls": [{"index": index, "function": function}]})

    reply = events(
        delta({"content": "Well."}),
        call(0, name="add", arguments=""),
        call(0, arguments='{"a": '),
        call(0, arguments="1}"),
        call(1, name="stop"),
        delta({}, "tool_calls"),
    )
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine, replace(ASKED, tools=(TOOL,)))
    assert heard.text == (
        'Well.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    )
    assert heard.end.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_told_apart_from_the_answer(name: str) -> None:
    reply = events(delta({name: "let me"}), delta({name: " see"}), delta({"content": "42"}), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).text == "<think>let me see</think>\n42"


async def test_log_probabilities_keep_the_servers_own_tokens() -> None:
    best = {"token": " é", "logprob": -0.5}
    told = {"content": [best | {"bytes": [32, 195, 169], "top_logprobs": [best, {"token": "e", "logprob": -2.0}]}]}
    reply = events(delta({"content": " é"}, logprobs=told), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        stream, words = ask(engine, sampling=replace(SAMPLING, logprobs=2))
        steps = [step async for step in stream]
    found = steps[0].logprobs[0]
    assert (words.token_bytes(found.token_id), found.logprob) == (" é".encode(), -0.5)
    assert [(words.token_text(token), value) for token, value in found.top] == [(" é", -0.5), ("e", -2.0)]
    assert (upstream.bodies[0]["logprobs"], upstream.bodies[0]["top_logprobs"]) == (True, 2)


async def test_a_stop_string_that_the_server_names_is_told() -> None:
    reply = events(delta({"content": "one "}), delta({}, "stop", stop_reason="END"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine, sampling=replace(SAMPLING, stop=("END",)))).text == "one END"


async def test_a_server_that_does_not_stream_is_understood() -> None:
    whole = {"choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 2, "completion_tokens": 4}}  # fmt: skip
    async with serving(refuses(200, whole)) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine)
    assert (heard.text, heard.end.usage) == ("all at once", Usage(2, 4))


async def test_the_credential_is_sent_and_never_shown() -> None:
    async with serving() as upstream, engine_for(upstream, api_key="sk-secret") as engine:
        await hear(engine)
        assert upstream.asked[-1].headers["authorization"] == "Bearer sk-secret"
        assert "secret" not in repr(engine.stats())


# -- failures


async def test_a_request_goes_to_another_server_when_the_first_cannot_be_reached() -> None:
    async with serving(says("here")) as upstream, engine_for(await closed_port(), upstream) as engine:
        assert (await hear(engine)).text == "here"
        first, second = engine.stats().upstreams
        assert (first.healthy, first.failures, first.retried) == (False, 1, 1)
        assert (second.healthy, second.failures, second.requests) == (True, 0, 1)


@pytest.mark.parametrize(
    "failure",
    [
        hangs_up,
        garbles,
        refuses(500),
        refuses(401),
        refuses(404),
        refuses(429),
        refuses(503),
        events(done=False),
        events({"error": {"message": "out of memory"}}),
        events("{not json"),
        events("[1]"),
    ],
    ids=["hangs up", "garbled", "500", "401", "404", "429", "503", "ends early", "an error", "no JSON", "no object"],
)
async def test_a_failure_before_the_first_token_is_made_good_by_another_server(failure: Any) -> None:
    async with serving(failure) as bad, serving(says("good")) as good, engine_for(bad, good) as engine:
        assert (await hear(engine)).text == "good"
    assert (len(bad.bodies), len(good.bodies)) == (1, 1)


@pytest.mark.parametrize(
    "failure",
    [events(delta({"content": "some"}), done=False), events(delta({"content": "some"}), {"error": {"message": "x"}})],
    ids=["ends early", "an error"],
)
async def test_a_failure_after_the_first_token_is_never_retried(failure: Any) -> None:
    async with serving(failure) as bad, serving() as good, engine_for(bad, good) as engine:
        stream, words = ask(engine)
        first = await anext(stream)
        with pytest.raises(EngineFailed):
            await anext(stream)
    assert (words.decoder().push(first.token_ids), good.bodies) == ("some", [])


async def test_a_request_that_is_refused_is_not_tried_elsewhere_and_nothing_is_echoed() -> None:
    async with serving(refuses(400)) as bad, serving() as good, engine_for(bad, good) as engine:
        with pytest.raises(InvalidRequest, match="refuses this request") as caught:
            await hear(engine)
    assert "secret" not in caught.value.message
    assert good.bodies == []


async def test_a_prompt_that_is_too_long_there_is_told_as_such() -> None:
    error = {"error": {"code": 400, "message": "the request exceeds the available context size"}}
    async with serving(refuses(400, error)) as upstream, engine_for(upstream) as engine:
        with pytest.raises(ContextTooLong):
            await hear(engine)


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says() -> None:
    busy = refuses(503, headers=["retry-after: 17"])
    async with serving(busy) as upstream, engine_for(upstream) as engine:
        for _ in range(2):
            with pytest.raises(Overloaded) as caught:
                await hear(engine)
            assert caught.value.retry_after == pytest.approx(17, abs=1)
    assert len(upstream.bodies) == 1


async def test_a_refusal_is_known_before_the_answer_begins() -> None:
    async with serving(refuses(503)) as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        with pytest.raises(Overloaded):
            await stream.accepted()


async def test_no_token_in_time_goes_to_another_server() -> None:
    slow = waits_for(asyncio.Event(), says())
    patience = {"first_token_timeout": 0.2}
    async with serving(slow) as late, serving(says("quick")) as good, engine_for(late, good, **patience) as engine:
        assert (await hear(engine)).text == "quick"
        await late.hung_up.wait()
        assert not engine.stats().upstreams[0].healthy


async def test_comments_alone_do_not_count_as_a_token() -> None:
    slow = waits_for(asyncio.Event(), says(), after=[delta({"role": "assistant", "content": ""})])
    async with serving(slow) as upstream, engine_for(upstream, first_token_timeout=0.2) as engine:
        with pytest.raises(EngineFailed, match="in time"):
            await hear(engine)


async def test_an_answer_that_stalls_is_given_up() -> None:
    stalls = waits_for(asyncio.Event(), says(), after=[delta({"content": "a"})])
    async with serving(stalls) as upstream, engine_for(upstream, token_timeout=0.2) as engine:
        stream, _ = ask(engine)
        assert (await anext(stream)).token_ids
        with pytest.raises(EngineFailed, match="in time"):
            await anext(stream)
        await upstream.hung_up.wait()


async def test_an_answer_that_goes_on_beyond_all_measure_is_cut_off() -> None:
    endless = events(*(delta({"content": "la "}) for _ in range(200)))
    async with serving(endless) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="max_tokens"):
            await hear(engine, sampling=replace(SAMPLING, max_tokens=5))


async def test_an_event_without_an_end_is_not_gathered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minivault.engine.remote.upstream._MOST_BYTES", 1000)
    async with serving(events("x" * 5000)) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="cannot be read"):
            await hear(engine)


async def test_text_split_anywhere_on_the_way_comes_whole() -> None:
    async def bytewise(asked: Any, writer: asyncio.StreamWriter) -> None:
        await send_head(writer)
        sent = b"".join(
            b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n"
            for event in (delta({"content": "grüße ✓"}), delta({}, "stop"))
        )
        for byte in sent:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(bytewise) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).text == "grüße ✓"


async def test_cancelling_closes_the_connection() -> None:
    endless = waits_for(asyncio.Event(), says(), after=[delta({"content": "a"})])
    async with serving(endless) as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        await anext(stream)
        stream.cancel()
        stream.cancel()
        assert (await anext(stream)).finish_reason is FinishReason.CANCELLED
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        async with asyncio.timeout(10):
            await upstream.hung_up.wait()
        assert engine.stats().running == 0


async def test_one_that_is_cancelled_at_once_ends_too() -> None:
    async with serving() as upstream, engine_for(upstream) as engine:
        stream, _ = ask(engine)
        stream.cancel()
        assert [step.finish_reason async for step in stream] == [FinishReason.CANCELLED]
    assert upstream.bodies == []


ODD_EVENTS = {
    "alternatives that are a number": delta({"content": ""}, logprobs={"content": [{"token": "a", "top_logprobs": 5}]}),
    "half a pair in a token": delta({"content": ""}, logprobs={"content": [{"token": "\ud83d", "logprob": 0}]}),
    "half a pair in another token": delta({}, logprobs={"tokens": ["\ud83d"], "token_logprobs": [0]}),
    "half a pair in an alternative": delta(
        {}, logprobs={"tokens": ["a"], "token_logprobs": [0], "top_logprobs": [{"\ud83d": -1}]}
    ),
    "a number beyond all bounds": delta({}, logprobs={"content": [{"token": "a", "logprob": 10**400}]}),
}


@pytest.mark.parametrize("name", ODD_EVENTS)
async def test_what_has_an_unexpected_shape_is_left_out(name: str) -> None:
    reply = events(ODD_EVENTS[name], delta({"content": "good"}), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        heard = await hear(engine, sampling=replace(SAMPLING, logprobs=1))
    assert heard.text.endswith("good")


async def test_half_a_surrogate_pair_is_no_text() -> None:
    reply = events(delta({"reasoning": "a\ud83d"}), delta({"content": "b\ude00"}), delta({}, "stop"))
    async with serving(reply) as upstream, engine_for(upstream) as engine:
        assert (await hear(engine)).text == "<think>a\ufffd</think>\nb\ufffd"


_NAMES = ("choices", "delta", "message", "content", "text", "reasoning", "tool_calls", "function", "name", "arguments",
          "index", "logprobs", "tokens", "token_logprobs", "top_logprobs", "token", "bytes", "logprob", "usage",
          "prompt_tokens", "completion_tokens", "finish_reason", "stop_reason")  # fmt: skip
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None), max_size=4)
)
_ANY = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=6)),
    max_leaves=20,
)
_CHOICE = st.dictionaries(st.sampled_from(_NAMES), _ANY, max_size=6)


@given(st.lists(st.one_of(_ANY, st.fixed_dictionaries({"choices": st.lists(_CHOICE, max_size=2)})), max_size=4))
def test_events_of_any_shape_are_read_as_far_as_they_make_sense(sent: list[Any]) -> None:
    words = Lexicon()
    reading = Reading(words, ("END",))
    steps = [reading.push(event) for event in sent if isinstance(event, dict)]
    steps += [reading.push(delta({}, "stop")), reading.finish()]
    for step in steps:
        for token in () if step is None else step.token_ids:
            assert words.token_bytes(token).decode("utf-8", "replace") is not None
        for told in () if step is None else step.logprobs:
            json.dumps([told.logprob, [value for _, value in told.top]], allow_nan=False)
    words.decoder().push([token for step in steps if step is not None for token in step.token_ids]).encode()


async def test_a_call_that_goes_on_beyond_all_measure_is_cut_off() -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "add", "arguments": " "}}]}
    async with serving(events(*(delta(call) for _ in range(200)))) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="max_tokens"):
            await hear(engine, sampling=replace(SAMPLING, max_tokens=5))


async def test_the_pieces_of_a_call_are_tokens_that_came_in_time() -> None:
    call = delta({"tool_calls": [{"index": 0, "function": {"name": "add"}}]})
    stalls = waits_for(asyncio.Event(), says(), after=[call])
    patience = {"first_token_timeout": 60.0, "token_timeout": 0.2}
    async with serving(stalls) as upstream, engine_for(upstream, **patience) as engine:
        with pytest.raises(EngineFailed, match="in time"):
            await hear(engine)


# -- routing


async def test_the_server_with_the_least_to_do_is_asked() -> None:
    gate = asyncio.Event()
    held = waits_for(gate, says("late"))
    async with serving(held) as one, serving(held) as other, engine_for(one, other) as engine:
        running = [asyncio.ensure_future(hear(engine)) for _ in range(6)]
        await until(lambda: len(one.bodies) + len(other.bodies) == 6)
        assert (len(one.bodies), len(other.bodies)) == (3, 3)
        gate.set()
        assert {heard.text for heard in await asyncio.gather(*running)} == {"late"}


async def test_a_server_never_has_more_requests_than_it_may() -> None:
    gate = asyncio.Event()
    async with serving(waits_for(gate, says("done"))) as upstream, engine_for(upstream, max_in_flight=2) as engine:
        running = [asyncio.ensure_future(hear(engine)) for _ in range(5)]
        await until(lambda: len(upstream.bodies) == 2 and engine.stats().waiting == 3)
        assert engine.stats().running == 2
        gate.set()
        assert len(await asyncio.gather(*running)) == 5
        assert (engine.stats().running, engine.stats().waiting) == (0, 0)


async def test_one_that_waits_can_be_cancelled() -> None:
    gate = asyncio.Event()
    async with serving(waits_for(gate, says("done"))) as upstream, engine_for(upstream, max_in_flight=1) as engine:
        first = asyncio.ensure_future(hear(engine))
        await until(lambda: len(upstream.bodies) == 1)
        waiting, _ = ask(engine)
        await until(lambda: engine.stats().waiting == 1)
        waiting.cancel()
        assert [step.finish_reason async for step in waiting] == [FinishReason.CANCELLED]
        assert engine.stats().waiting == 0
        gate.set()
        assert (await first).text == "done"


async def test_a_full_queue_refuses() -> None:
    gate = asyncio.Event()
    held = waits_for(gate, says())
    async with serving(held) as upstream, engine_for(upstream, max_in_flight=1, max_waiting=1) as engine:
        streams = [ask(engine)[0]]
        await until(lambda: engine.stats().running == 1)
        streams.append(ask(engine)[0])
        await until(lambda: engine.stats().waiting == 1)
        with pytest.raises(Overloaded, match="queue"):
            ask(engine)
        for stream in streams:
            stream.cancel()


async def test_a_server_that_is_seen_to_be_well_again_gets_requests_again() -> None:
    async with serving(hangs_up, says("back")) as upstream, engine_for(upstream) as engine:
        upstream.models_status = 503
        await engine.check_health()
        with pytest.raises(Overloaded, match="No upstream server can be reached"):
            await hear(engine)
        upstream.models_status = 200
        await engine.check_health()
        upstream.script.pop(0)
        assert (await hear(engine)).text == "back"


async def test_no_more_of_a_list_of_models_is_read_than_a_bound() -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1 << 16
            yield bytes(1 << 16)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless()))
    async with httpx.AsyncClient(transport=transport) as client:
        upstream = Upstream("http://up/v1", RemoteConfig(("http://up/v1",), "theirs"), client, lambda: 0.0)
        await upstream.check()
    assert upstream.healthy
    assert given < 2 << 20


async def test_health_is_looked_after_in_the_background() -> None:
    async with serving() as upstream, engine_for(upstream, health_interval=0.1) as engine:
        engine.watch()
        await until(lambda: len([asked for asked in upstream.asked if asked.method == "GET"]) >= 2)


async def test_what_goes_wrong_in_one_look_at_health_ends_none_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: Any) -> str:
        raise ValueError

    async with serving() as upstream, engine_for(upstream, health_interval=0.1) as engine:
        with monkeypatch.context() as broken:
            broken.setattr("minivault.engine.remote.upstream._whole", breaks)
            engine.watch()
            await until(lambda: not engine.stats().upstreams[0].healthy)
        await until(lambda: engine.stats().upstreams[0].healthy)


async def test_closing_ends_what_runs() -> None:
    async with serving(waits_for(asyncio.Event(), says())) as upstream:
        async with engine_for(upstream) as engine:
            stream, _ = ask(engine)
            await until(lambda: len(upstream.bodies) == 1)
        assert [step.finish_reason async for step in stream] == [FinishReason.CANCELLED]
        with pytest.raises(EngineFailed):
            ask(engine)


@pytest.mark.parametrize(("header", "seconds"), [(None, 1), ("5", 5), ("0", 1), ("99999", 3600), ("soon", 1)])
def test_retry_after_is_kept_within_bounds(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


# -- what is kept


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://host/v1", "http"),
        ("http://user:pass@host/v1", "credentials"),
        ("http://host/v1?key=x", "credentials"),
        ("host:8080", "http"),
        ("http://host:99999/v1", "http"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word) as caught:
        RemoteConfig((url,), "m")
    assert "pass@" not in caught.value.message


def test_what_is_kept_is_read_back() -> None:
    config = RemoteConfig(("http://a:1/v1", "http://b:2/v1"), "m", api_key_env="KEY", max_in_flight=4)
    assert RemoteConfig.from_json(config.to_json()) == config
