"""Answers of any shape, length and cut: the remote engine reads them as far as they make sense."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivault.engine.remote.wire import Reading
from minivault.errors import EngineFailed
from minivault.models.lexicon import Lexicon
from tests.engine.remote import SAMPLING, engine_for, hear
from tests.engine.upstream import delta, events, send_head, serving


async def test_an_answer_that_goes_on_beyond_all_measure_is_cut_off() -> None:
    endless = events(*(delta({"content": "la "}) for _ in range(200)))
    async with serving(endless) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="max_tokens"):
            await hear(engine, sampling=replace(SAMPLING, max_tokens=5))


async def test_an_answer_of_few_pieces_is_bounded_in_bytes_too() -> None:
    large = events(*(delta({"content": "la " * 50_000}) for _ in range(20)), delta({}, "stop"))
    async with serving(large) as upstream, engine_for(upstream) as engine:
        with pytest.raises(EngineFailed, match="far more than an answer of max_tokens"):
            await hear(engine, sampling=replace(SAMPLING, max_tokens=5))
        assert len((await hear(engine, sampling=replace(SAMPLING, max_tokens=100))).text) == 3_000_000


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
