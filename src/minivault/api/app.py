"""The composition root of the server: settings in, an application out. Holds no logic of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI, Response

from minivault import __version__
from minivault.access.gate import Gate
from minivault.access.guard import HostGuard
from minivault.access.keys import KeyStore
from minivault.access.limits import Limits
from minivault.access.proxies import TrustedProxies
from minivault.access.storage import windows_in
from minivault.api import (
    admin,
    anthropic,
    batches,
    embeddings,
    files,
    health,
    models,
    native,
    ollama,
    openai,
    pages,
    problems,
    responses,
    schema,
    vault,
)
from minivault.api.background import Background
from minivault.api.batching import Batching, Bounds
from minivault.api.cross_origin import CrossOrigin
from minivault.api.entrance import Entrance
from minivault.api.middleware import ClientAddress, Door, HeadAsGet, RequestContext
from minivault.batches.store import BatchStore
from minivault.service import Service
from minivault.service.opening import open_service
from minivault.settings import Settings
from minivault.telemetry.metrics import Metrics
from minivault.telemetry.tracing import open_tracing

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
    tracing = open_tracing(settings.otel_endpoint, content=settings.otel_content)
    gate = _gate_of(settings, clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _service_of(settings, service, metrics) as running:
            app.state.service = running
            running.tracing = tracing
            app.state.drain = lambda: _drain(batching, running, settings.shutdown_timeout)
            if settings.batches_path.exists():
                await batching.resume()
            yield
            await app.state.drain()
            await app.state.background.close()
            await batching.close()
            await gate.limits.close()
            await asyncio.to_thread(tracing.close)

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
    batching = app.state.batching = _batching_of(app, settings, metrics)
    app.state.background = Background()
    app.state.service = service
    parts = (
        native,
        embeddings,
        openai,
        responses,
        files,
        batches,
        ollama,
        anthropic,
        vault,
        admin,
        models,
        health,
        pages,
    )
    for part in parts:
        app.include_router(part.router)
    routes = [route for part in parts for route in part.router.routes]
    problems.install(app, routes)
    schema.install(app)
    cross_origin = CrossOrigin(settings.cors_origins)
    # The last one added sees a request first.
    app.add_middleware(HeadAsGet)
    app.add_middleware(Entrance, gate=gate, metrics=metrics, routes=routes)
    app.add_middleware(
        Door,
        guard=HostGuard(settings.host, settings.allowed_hosts, gate.asks_for_keys),
        cross_origin=cross_origin,
        metrics=metrics,
    )
    app.add_middleware(RequestContext, metrics=metrics, tracing=tracing, cross_origin=cross_origin)
    app.add_middleware(ClientAddress, proxies=TrustedProxies(settings.trusted_proxies))
    return app


def _gate_of(settings: Settings, clock: Callable[[], float]) -> Gate:
    return Gate(
        KeyStore.of_server(settings.data_dir),
        Limits(windows_in(settings.limits_storage, clock), clock),
        rate_limit=settings.rate_limit,
        require_keys=settings.require_keys,
        share_prefix_cache=settings.share_prefix_cache,
    )


def _batching_of(app: FastAPI, settings: Settings, metrics: Metrics) -> Batching:
    bounds = Bounds(
        settings.batch_concurrency,
        settings.max_file_bytes,
        settings.max_stored_bytes,
        settings.max_body_bytes,
        settings.retention,
    )
    return Batching(app, lambda: BatchStore.open(settings.batches_path, settings.vault_key_file), bounds, metrics)


async def _drain(batching: Batching, service: Service, patience: float) -> None:
    batching.pause()
    await service.drain(patience)


def _service_of(settings: Settings, given: Service | None, metrics: Metrics) -> AbstractAsyncContextManager[Service]:
    return open_service(settings, metrics, wait=False) if given is None else nullcontext(given)
