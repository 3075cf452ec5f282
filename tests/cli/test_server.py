"""The server around the application: when it ends, and in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from minivault.cli.listener import listen
from minivault.cli.server import Server
from minivault.errors import CheckpointCorrupt, TooManyOpenFiles

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


def serving_of(*ends: Exception | None) -> tuple[Server, list[Exception]]:
    """A server whose default model, each time that it is waited for, ends so; and the faults that it keeps."""
    script, faults = iter(ends), list[Exception]()

    async def ready() -> None:
        if (fault := next(script)) is not None:
            raise fault

    state = SimpleNamespace(service=SimpleNamespace(models=SimpleNamespace(ready=ready)))
    server = Server(uvicorn.Config(lambda: None), state, faults, on_start=lambda: None, on_stop=lambda: None)
    return server, faults


@pytest.mark.anyio
async def test_a_model_that_cannot_be_opened_for_want_of_descriptors_is_tried_again() -> None:
    short = TooManyOpenFiles("The system has too many open files; try again.", retry_after=0.001)
    server, faults = serving_of(short, short, None)
    await server._watch_loading()
    assert not faults
    assert not server.should_exit


@pytest.mark.anyio
async def test_a_model_that_is_damaged_ends_the_server() -> None:
    server, faults = serving_of(CheckpointCorrupt("config.json is missing"))
    await server._watch_loading()
    assert len(faults) == 1
    assert server.should_exit
