"""The server around the application: in which order it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from minivault.cli.listener import listen
from minivault.cli.server import Server

Message = MutableMapping[str, Any]


@pytest.mark.anyio
async def test_its_address_is_withdrawn_after_the_drain_and_before_the_port_is_free() -> None:
    happened: list[str] = []
    listener = listen("127.0.0.1", 0)

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        happened.append("ended, port closed" if listener.fileno() == -1 else "ended, port open")
        await send({"type": "lifespan.shutdown.complete"})

    async def drain() -> None:
        happened.append("drained")

    async def ready() -> None:
        pass

    def withdraw() -> None:
        happened.append("withdrawn, port closed" if listener.fileno() == -1 else "withdrawn, port open")

    def stop() -> None:
        server.should_exit = True

    state = SimpleNamespace(drain=drain, service=SimpleNamespace(models=SimpleNamespace(ready=ready), open_calls=0))
    config = uvicorn.Config(app, lifespan="on", log_config=None, log_level="critical")
    server = Server(config, state, [], on_start=stop, on_stop=withdraw)
    await server.serve(sockets=[listener])
    assert happened == ["drained", "withdrawn, port open", "ended, port closed"]
