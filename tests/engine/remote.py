"""The remote engine in front of servers with a script, and one answer of it read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from minivault.engine.engine import EngineRequest, TokenStep
from minivault.engine.remote.engine import RemoteEngine, RemoteStream
from minivault.generation import GenerationRequest, Message, SamplingParams
from minivault.models.lexicon import Lexicon
from minivault.models.remote_config import RemoteConfig
from tests.engine.upstream import ScriptedUpstream

ASKED = GenerationRequest(messages=(Message("user", "hi"),))
SAMPLING = SamplingParams(max_tokens=64, seed=7)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@asynccontextmanager
async def engine_for(*upstreams: ScriptedUpstream | str, **config: Any) -> AsyncIterator[RemoteEngine]:
    urls = tuple(one if isinstance(one, str) else one.url for one in upstreams)
    given: dict[str, Any] = {"health_interval": 3600.0} | config
    key = given.pop("api_key", None)
    waiting, trusted = given.pop("max_waiting", 256), given.pop("trusted", None)
    engine = RemoteEngine(RemoteConfig(urls, "theirs", **given), api_key=key, max_waiting=waiting, trusted=trusted)
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
    async with asyncio.timeout(120):
        return Heard([step async for step in stream], words)


async def closed_port() -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}/v1"
