"""Is it alive, is it ready, what does it do, what does it serve. Knows nothing of the vault or of engines."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from minivault import __version__
from minivault.access.gate import Gate
from minivault.access.roles import Permission
from minivault.api import schema
from minivault.api.native import caller_of, json_response
from minivault.api.problems import Problem
from minivault.errors import KeysUnavailable, LimitsUnavailable
from minivault.service import Service
from minivault.telemetry.metrics import CONTENT_TYPE

NOT_READY = "The server is not ready."
"""For those who may not know why."""

router = APIRouter(tags=["server"])


class StateBody(BaseModel):
    status: str


class ProgressBody(BaseModel):
    """How far a load has come."""

    phase: str
    done_bytes: int = Field(ge=0)
    total_bytes: int = Field(ge=0)


class ModelBody(BaseModel):
    """A model of this server's catalog."""

    name: str
    loaded: bool
    default: bool
    embedded: bool
    family: str
    parameters: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    digest: str
    imported_at: str | None
    modified_at: str = Field(description="When it was imported; or this version installed, with what is embedded.")
    kind: str = Field(description="`generation` or `embedding`.")
    engine: str = Field(description="`native`, `transformers` or `remote`.")
    state: str = Field(description="`unloaded`, `waiting` (for room), `loading`, `loaded`, `leaving` or `failed`.")
    memory_bytes: int = Field(ge=0, description="What it takes, or will.")
    in_use: int = Field(ge=0, description="How many hold it now.")
    expires_in: float | None = Field(description="Seconds until it leaves if it is idle; null: it stays.")
    progress: ProgressBody | None = Field(description="While it loads.")
    error: str | None = Field(description="Why the last load failed.")


class DamagedModelBody(BaseModel):
    """A model that cannot be loaded; one that is in memory serves until it leaves."""

    name: str
    error: str = Field(description="Why, and what to do.")


class ModelsBody(BaseModel):
    models: list[ModelBody]
    damaged: list[DamagedModelBody] = Field(description="Their files changed or are gone, or no import made them.")


@router.get(
    "/livez",
    summary="Is the process alive",
    responses={200: schema.json_answer(StateBody, "It is."), **schema.error_responses(403)},
)
async def livez() -> Response:
    """Answers as soon as the server listens, while the model still loads too."""
    return json_response({"status": "alive"})


@router.get(
    "/readyz",
    summary="Would a prompt be answered now",
    responses={200: schema.json_answer(StateBody, "It would."), **schema.error_responses(403, 503)},
)
async def readyz(request: Request) -> Response:
    """503 while the model loads, while the server shuts down, when the vault cannot be written, when the keys cannot be
    believed or the limits not be counted, and while no server behind a remote model is well. It says which where no key
    is asked for; elsewhere the log does, and `/health`."""
    reason = await not_ready_because(request)
    if reason is not None:
        told = NOT_READY if _tells_strangers(request) else reason
        raise Problem(503, told, code="not_ready", headers={"retry-after": "1"})
    return json_response({"status": "ready"})


@router.get("/health", include_in_schema=False)
async def health(request: Request) -> Response:
    service, caller = service_of(request), caller_of(request)
    reason = await not_ready_because(request)
    now = service.statistics()
    body = {
        "status": "ok" if reason is None else "unavailable",
        "reason": reason,
        "version": __version__,
        "uptime_seconds": now.uptime_seconds,
        "total_requests": now.total_requests,
        "average_response_time_ms": now.average_response_time_ms,
        "permissions": [permission.name.lower() for permission in Permission if caller.may(permission)],
        "model": now.model,
        "models": {name: state for name, state in service.models_in_memory().items() if caller.may_use(name)},
        "engine": {
            "running": now.running,
            "waiting": now.waiting,
            "kv_cache_usage": now.kv_cache_usage,
        },
        "vault": {
            "records": now.records,
            "head_size": now.head_size,
            "signed_at": now.signed_at,
            "head_error": now.head_error,
            "mirror_error": now.mirror_error,
        },
    }
    return json_response(body)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    responses={
        200: {
            "description": "Text exposition format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **schema.error_responses(403),
    },
)
async def metrics(request: Request) -> Response:
    """Our own `minivault_*`, and the `vllm:` names that existing dashboards know."""
    found = service_of(request).metrics
    found.ready(await not_ready_because(request) is None)
    return Response(found.render(), headers={"content-type": CONTENT_TYPE})


@router.get(
    "/models",
    summary="The models of this machine",
    responses={200: schema.json_answer(ModelsBody, "The catalog."), **schema.error_responses(403, 429, 500)},
)
async def models(request: Request) -> Response:
    """All that the catalog holds; `loaded` are those that answer now."""
    found, faults = await service_of(request).survey_models()
    damaged = [{"name": name, "error": error} for name, error in faults.items()]
    return json_response({"models": visible(request, found), "damaged": visible(request, damaged)})


def visible(request: Request, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the caller may use."""
    caller = caller_of(request)
    return [model for model in models if caller.may_use(model["name"])]


async def not_ready_because(request: Request) -> str | None:
    """Why a prompt for the default model would not be answered now; ``None`` where it would be."""
    gate: Gate = request.app.state.access
    try:
        gate.asks_for_keys()
        await gate.limits.check()
    except (KeysUnavailable, LimitsUnavailable) as error:
        return error.message
    return service_of(request).not_ready_because()


def _tells_strangers(request: Request) -> bool:
    """Whether an open path is read by some who may know nothing of this server: keys are asked for."""
    gate: Gate = request.app.state.access
    try:
        return gate.asks_for_keys()
    except KeysUnavailable:
        return True


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
