"""The composition root of the server: settings in, an application out. Holds no logic of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI, Response

from minivault import __version__
from minivault.access.gate import Gate
from minivault.access.guard import HostGuard
from minivault.access.keys import KeyStore
from minivault.access.limits import Limits
from minivault.access.windows import MemoryWindows
from minivault.api import anthropic, health, native, ollama, openai, pages, problems, responses, schema, vault
from minivault.api.entrance import Entrance
from minivault.api.middleware import Door, HeadAsGet, RequestContext
from minivault.service import Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.telemetry.metrics import Metrics

__all__ = ["create_app", "open_service"]

DESCRIPTION = "A private LLM server for one machine: exact, and every call on the record."


def create_app(
    settings: Settings, *, service: Service | None = None, clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """The application. ``service``: use this one, and leave it open at the end; else one is opened from the settings.

    The model loads behind the back of the running server: ``/livez`` answers at once, ``/readyz`` when it is there.
    ``app.state.drain`` ends the work in hand; the lifespan calls it too, and a server calls it while it still listens.

    Raises:
        ConfigError: a setting is out of bounds.
    """
    metrics = service.metrics if service is not None else Metrics()
    limits = Limits(MemoryWindows(clock))
    gate = Gate(KeyStore.in_folder(settings.data_dir), limits, rate_limit=settings.rate_limit)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _service_of(settings, service, metrics) as running:
            app.state.service = running
            app.state.drain = lambda: running.drain(settings.shutdown_timeout)
            yield
            await app.state.drain()
            await limits.close()

    app = FastAPI(
        title="MiniVault",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        default_response_class=Response,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.settings = settings
    app.state.access = gate
    app.state.service = service
    for part in (native, openai, responses, ollama, anthropic, vault, health, pages):
        app.include_router(part.router)
    problems.install(app)
    schema.install(app)
    # The last one added sees a request first.
    app.add_middleware(HeadAsGet)
    app.add_middleware(Entrance, gate=gate, metrics=metrics)
    app.add_middleware(Door, guard=HostGuard(settings.host, settings.allowed_hosts), metrics=metrics)
    app.add_middleware(RequestContext, metrics=metrics)
    return app


def _service_of(settings: Settings, given: Service | None, metrics: Metrics) -> AbstractAsyncContextManager[Service]:
    return open_service(settings, metrics, wait=False) if given is None else nullcontext(given)
