"""The catalog over HTTP, for admins: ``/models``. Pulls, imports, checks, loads and removals.

Until keys exist, only clients on this machine may change what there is, and none that a proxy speaks for. Parses and
answers; knows nothing of hubs or files.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from minivault.access.roles import Permission
from minivault.api import schema, streaming
from minivault.api.health import ModelBody, service_of
from minivault.api.native import caller_of, json_response, parsed
from minivault.api.problems import problem_of
from minivault.api.query import only_known
from minivault.api.wire.models import (
    ImportModelBody,
    LoadModelBody,
    ModelDetailsBody,
    PullModelBody,
    PullStepBody,
    VerifiedModelBody,
)
from minivault.errors import Forbidden
from minivault.models.catalog import ModelEntry
from minivault.models.pulling import PullProgress
from minivault.one_line import in_one_line
from minivault.service.keeping import Keeper
from minivault.telemetry.logging import describe_error, get_logger

logger = get_logger(__name__)

router = APIRouter(prefix="/models", tags=["models"], dependencies=[Depends(only_known)])

Name = Annotated[str, Path(min_length=1, max_length=200, description="A model of the catalog.")]
Line = Callable[[PullProgress], Mapping[str, Any]]

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_CHANGES = (400, 403, 404, 409, 413, 415, 422, 429, 500, 503)


@router.post(
    "/pull",
    summary="Download a model from the hub",
    responses={
        200: {
            "description": 'JSON lines, or with `"stream": false` the last of them.',
            "content": {kind: {"schema": schema.ref(PullStepBody)} for kind in (streaming.NDJSON, "application/json")},
        },
        **schema.error_responses(*_CHANGES),
    },
    openapi_extra=schema.json_body(PullModelBody),
)
async def pull(request: Request) -> Response:
    """Only safetensors, tokenizer and configuration files, checked against the hub's digests. Closing the connection
    stops it; the same request goes on from what came."""
    body, _ = await parsed(request, PullModelBody)
    keeper = keeper_of(request)
    if not body.stream:
        entry = await streaming.unless_gone(request, keeper.pulled(body.model, body.name))
        return json_response(await _success(keeper, entry))
    return await progress_stream(request, keeper, body.model, body.name, _step, _success)


@router.post(
    "/import",
    summary="Import a folder or a GGUF file of the server's machine",
    status_code=201,
    responses={201: schema.json_answer(ModelDetailsBody, "The model."), **schema.error_responses(*_CHANGES)},
    openapi_extra=schema.json_body(ImportModelBody),
)
async def import_model(request: Request) -> Response:
    """Only from within the folder that the setting `import_dir` names; without it, 403."""
    body, _ = await parsed(request, ImportModelBody)
    keeper = keeper_of(request)
    entry = await keeper.import_from(body.path, body.name)
    return json_response(await keeper.details(entry.name), 201)


@router.get(
    "/{name}",
    summary="What is known of a model",
    responses={
        200: schema.json_answer(ModelDetailsBody, "The model."),
        **schema.error_responses(403, 404, 422, 429, 500, 503),
    },
)
async def show(request: Request, name: Name) -> Response:
    """Sizes, digests, chat template, licence files, and where it came from. The servers of a remote model are for those
    who may change models."""
    caller_of(request).require_model(name)
    keeper = Keeper(request.app.state.settings, service_of(request))
    return json_response(await keeper.details(name, whole=_may_change(request)))


@router.delete(
    "/{name}",
    summary="Remove a model's files",
    status_code=204,
    responses={204: {"description": "It is gone."}, **schema.error_responses(403, 404, 409, 422, 429, 500, 503)},
)
async def remove(request: Request, name: Name) -> Response:
    """409 while it answers, and for the server's default. What was recorded of its calls stays in the vault."""
    await keeper_of(request).remove(name)
    return Response(status_code=204)


@router.post(
    "/{name}/verify",
    summary="Read a model's files again",
    responses={200: schema.json_answer(VerifiedModelBody, "What was found."), **schema.error_responses(*_CHANGES)},
)
async def verify(request: Request, name: Name) -> Response:
    """Compares every file with what it was when the model was imported."""
    checks = await keeper_of(request).verify(name)
    files = [{"name": c.name, "size": c.size, "sha256": c.sha256, "fault": c.fault} for c in checks]
    return json_response({"name": name, "sound": not any(c.fault for c in checks), "files": files})


@router.post(
    "/{name}/load",
    summary="Load a model into memory",
    responses={200: schema.json_answer(ModelBody, "It is loaded."), **schema.error_responses(*_CHANGES)},
    openapi_extra=schema.json_body(LoadModelBody, required=False),
)
async def load(request: Request, name: Name) -> Response:
    """Answers when it is loaded, which may take minutes; `GET /models` shows how far it is. Others leave for it if room
    is short: the one idle for longest first."""
    body, _ = await parsed(request, LoadModelBody, may_be_empty=True)
    caller_of(request).require_model(name)
    await streaming.unless_gone(request, service_of(request).load_model(name, body.keep_alive))
    return json_response(_state(await service_of(request).describe_model(name)))


@router.post(
    "/{name}/unload",
    summary="Have a model leave memory",
    responses={200: schema.json_answer(ModelBody, "It has left."), **schema.error_responses(*_CHANGES)},
)
async def unload(request: Request, name: Name) -> Response:
    """Answers when it has left, which is after the last call that uses it. The next call loads it again."""
    caller_of(request).require_model(name)
    return json_response(_state(await service_of(request).unload_model(name)))


def _state(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {field: shown[field] for field in ModelBody.model_fields}


def keeper_of(request: Request) -> Keeper:
    """What changes the catalog, for one who may.

    Raises:
        Forbidden: no keys are asked for, and the client is not on this machine, or a proxy speaks for it.
    """
    caller = caller_of(request)
    if caller.role is None and not _may_change(request):
        raise Forbidden(
            "Without API keys, models are changed from the server's own machine alone. Make an admin's key: "
            "minivault keys create NAME --role admin"
        )
    given: Keeper | None = getattr(request.app.state, "keeper", None)
    keeper = given or Keeper(request.app.state.settings, service_of(request))
    return replace(keeper, by=caller.api_key_id)


def _may_change(request: Request) -> bool:
    caller = caller_of(request)
    if caller.role is not None:
        return caller.may(Permission.MODELS)
    return _on_this_machine(caller.address) and not any(name in request.headers for name in FORWARDED)


def _on_this_machine(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


async def progress_stream(
    request: Request,
    keeper: Keeper,
    model: str,
    name: str | None,
    line_of: Line,
    success: Callable[[Keeper, ModelEntry], Any],
) -> Response:
    """A pull as JSON lines. What goes wrong before the first has a status of its own; later errors, the path's shape.

    Raises:
        MiniVaultError: the pull was refused or failed before anything came.
    """
    steps = keeper.pull(model, name)
    first = await streaming.unless_gone(request, _next(steps))  # given up, it ends the pull

    async def lines() -> AsyncGenerator[bytes]:
        try:
            yield _line(line_of(first) if isinstance(first, PullProgress) else await success(keeper, first))
            async for step in steps:
                yield _line(line_of(step) if isinstance(step, PullProgress) else await success(keeper, step))
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                logger.error("pull failed", **describe_error(error))  # noqa: TRY400 - a traceback may hold input
            yield _line(problem.body(request.scope["path"]))

    return PullStream(lines(), steps)


class PullStream(StreamingResponse):
    """The lines of a pull, which ends when they end or nobody listens, even before the first."""

    def __init__(self, lines: AsyncGenerator[bytes], steps: AsyncGenerator[PullProgress | ModelEntry]) -> None:
        super().__init__(lines, headers=streaming.STREAM_HEADERS, media_type=streaming.NDJSON)
        self._lines = lines
        self._steps = steps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Order: what reads first. The lines may never have begun, and so have no end of their own.
            await self._lines.aclose()
            await self._steps.aclose()


async def _next(steps: AsyncGenerator[PullProgress | ModelEntry]) -> PullProgress | ModelEntry:
    return await anext(steps)


def _line(value: Mapping[str, Any]) -> bytes:
    return in_one_line(value).encode() + b"\n"


def _step(step: PullProgress) -> dict[str, Any]:
    return {
        "status": "downloading",
        "file": step.file,
        "file_completed": step.file_done,
        "file_total": step.file_total,
        "completed": step.done,
        "total": step.total,
    }


async def _success(keeper: Keeper, entry: ModelEntry) -> dict[str, Any]:
    return {"status": "success", "model": await keeper.details(entry.name)}
