"""Bodies that were right once, with something in them changed: bytes, values, names, sizes. Every surface answers as
it says, and never by a fault of its own.

A few hundred here; MINIVAULT_MUTATIONS=100000 for the figures of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.api.client import client_of
from tests.fakes import Bench, make_bench, says

MUTATIONS = int(os.environ.get("MINIVAULT_MUTATIONS") or 600)
DECLARED = frozenset({200, 400, 404, 409, 413, 415, 422})
"""What the documentation of every one of these routes has, and what is no fault of the server's."""

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "so?"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
NATIVE = {"prompt": "hi", "stop": ["x"], "temperature": 0.5, "seed": 7, "logprobs": 2, "max_tokens": 5}
CHAT = {"model": "fake", "messages": TURNS, "tools": [TOOL], "stop": ["x"], "n": 2, "logit_bias": {"5": 1}, "seed": 1}
PARTS = [{"type": "text", "text": "hi"}]
SEEDS: list[tuple[str, dict[str, Any]]] = [
    ("/generate", NATIVE),
    ("/generate", {"messages": TURNS, "system": "be short", "response_format": {"type": "regex", "regex": "a+"}}),
    ("/generate/stream", NATIVE),
    ("/generate-stream", NATIVE | {"raw": True, "echo": True}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {"model": "fake", "messages": [{"role": "user", "content": PARTS}], "stream": True}),
    ("/v1/completions", {"model": "fake", "prompt": ["a", "b"], "logprobs": 1, "max_tokens": 4, "echo": True}),
    ("/v1/completions", {"model": "fake", "prompt": [1, 2, 3], "suffix": None}),
    ("/v1/responses", {"model": "fake", "input": TURNS, "instructions": "x", "text": {"format": {"type": "text"}}}),
    ("/v1/embeddings", {"model": "fake", "input": ["a"], "dimensions": 4, "encoding_format": "base64"}),
    ("/v1/messages", {"model": "fake", "max_tokens": 9, "messages": [{"role": "user", "content": PARTS}], "top_k": 3}),
    ("/v1/messages/count_tokens", {"model": "fake", "messages": TURNS, "system": PARTS}),
    ("/api/generate", {"model": "fake", "prompt": "hi", "options": {"num_predict": 4, "stop": ["x"]}, "context": [1]}),
    ("/api/chat", {"model": "fake", "messages": TURNS, "tools": [TOOL], "options": {"seed": 3}, "keep_alive": "10m"}),
    ("/api/show", {"model": "fake", "verbose": True}),
    ("/api/embed", {"model": "fake", "input": ["a"], "truncate": True}),
    ("/embed", {"input": ["a"], "model": "fake"}),
]
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**399, 0.0, -0.0, 1e308, 5e-324, 1.5, "", " ", "\x00",
    "\u202e", "\ufeff", "\ud83d\ude00", "a" * 5000, "<|im_start|>system", "{{ 7*7 }}", "../../etc/passwd", "nan", [],
    {}, [[]], [None], {"": {}}, {"__proto__": 1}, [0] * 300, "data: [DONE]\n\n", "\r\nx: y", {"type": "text"},
]  # fmt: skip
SPLICES = (b"\x00", b"\xff", b"\xed\xa0\x80", b"NaN", b"Infinity", b"1e999", b'"', b"[", b"{", b"\\u", b"\\ud800", b",")

Mutation = Callable[[Any, random.Random], Any]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, item in inner for place in places(item, (*path, key))]


def mutate_value(body: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Put something odd in a place, take the place away, double it, or give it another name."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        everywhere = places(body)
        if not everywhere:
            return body
        *above, last = chance.choice(everywhere)
        holder: Any = body
        for key in above:
            holder = holder[key]
        deed = chance.randrange(6)
        if deed < 3:
            holder[last] = copy.deepcopy(chance.choice(ODD))
        elif deed == 3:
            del holder[last]
        elif isinstance(holder, dict):
            holder[chance.choice(("type", "role", "content", "extra", "stream", "n"))] = holder[last]
        else:
            holder += [copy.deepcopy(holder[last])] * chance.randrange(4)
    return body


def mutate_bytes(raw: bytes, chance: random.Random) -> bytes:
    at, other = sorted((chance.randrange(len(raw) + 1), chance.randrange(len(raw) + 1)))
    deed = chance.randrange(5)
    if deed == 0:
        return raw[:at]
    if deed == 1:
        return raw[:at] + chance.choice(SPLICES) + raw[at:]
    if deed == 2:
        return raw[:at] + raw[other:]
    if deed == 3:
        return raw[:other] + raw[at:]
    return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]


def mutated(chance: random.Random) -> tuple[str, bytes]:
    path, seed = chance.choice(SEEDS)
    raw = json.dumps(mutate_value(seed, chance) if chance.random() < 0.8 else seed).encode()
    return path, mutate_bytes(raw, chance) if chance.random() < 0.4 else raw


async def send(client: httpx2.AsyncClient, bench: Bench, chance: random.Random) -> str:
    path, raw = mutated(chance)
    response = await client.post(path, content=raw, headers={"content-type": "application/json"})
    told = f"{path} {response.status_code} {raw[:2000]!r} {response.text[:300]}"
    assert response.status_code in DECLARED, told
    assert len(bench.ledger.intents) == len(bench.ledger.outcomes), told
    if response.status_code != 200:
        assert isinstance(response.json(), dict), told
    return f"{response.status_code}"


@pytest.mark.timeout(7200)
async def test_mutated_bodies_get_a_declared_answer_and_every_call_an_outcome() -> None:
    chance = random.Random(2026)  # noqa: S311 - repeatable on purpose
    seen: Counter[str] = Counter()
    done = 0
    while done < MUTATIONS:
        # A bench a thousand: its ledger keeps all that was said.
        bench = make_bench(says("so it is x"), template=True)
        async with client_of(bench) as client:
            for _ in range(min(1000, MUTATIONS - done)):
                seen[await send(client, bench, chance)] += 1
                done += 1
        await asyncio.sleep(0)
        assert bench.models.leases == 0
    print(dict(seen))
    assert sum(seen.values()) == MUTATIONS
    assert seen["200"] > MUTATIONS // 20
