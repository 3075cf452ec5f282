"""The Ollama surface: ``/api``. JSON lines, streamed unless told otherwise.

Parses once, asks the service, writes the answer. Knows nothing of engines or of the vault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from minivault import __version__
from minivault.access.roles import Permission
from minivault.api import schema, streaming
from minivault.api.health import service_of, visible
from minivault.api.models import keeper_of, progress_stream
from minivault.api.native import caller_of, json_response, parsed, record_header, whole_answer
from minivault.api.wire import ollama_answers as answers
from minivault.api.wire.ollama import ChatBody, ErrorText, GenerateBody, NameBody, PullNameBody
from minivault.errors import InvalidRequest
from minivault.generation import GenerationRequest
from minivault.models.catalog import ModelEntry
from minivault.models.naming import untagged
from minivault.one_line import in_one_line
from minivault.service.keeping import Keeper

FOLLOWED = "0.6.4"
"""The version of Ollama whose API this surface follows: clients ask for it to know what they may send."""

router = APIRouter(prefix="/api", tags=["ollama"])

_ANSWERED = (400, 403, 404, 413, 415, 422, 429, 500, 503)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return schema.error_responses(*statuses, body=ErrorText)


def _answer(model: type[answers.AnswerBody]) -> dict[int | str, dict[str, Any]]:
    ok = schema.json_answer(model, 'JSON lines, or with `"stream": false` one object.')
    ok["content"][streaming.NDJSON] = {"schema": {"type": "string"}}
    return {200: ok, **_errors(*_ANSWERED)}


_PULLED: dict[int | str, dict[str, Any]] = {
    200: schema.json_answer(answers.PullBody, 'JSON lines, or with `"stream": false` the last of them.'),
    **_errors(*_ANSWERED, 409),
}


@router.post(
    "/generate",
    summary="Answer a prompt",
    responses=_answer(answers.GeneratedBody),
    openapi_extra=schema.json_body(GenerateBody),
)
async def generate(request: Request) -> Response:
    """Streams JSON lines unless `"stream": false`. Without a prompt, the model is only made ready."""
    body, raw = await parsed(request, GenerateBody)
    if body.asks_nothing:
        return await _nothing_said(request, "generate", body)
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw)
    return await _run(request, "generate", asked)


@router.post(
    "/chat",
    summary="Answer a conversation",
    responses=_answer(answers.ChattedBody),
    openapi_extra=schema.json_body(ChatBody),
)
async def chat(request: Request) -> Response:
    """Streams JSON lines unless `"stream": false`. Without messages, the model is only made ready."""
    body, raw = await parsed(request, ChatBody)
    if body.asks_nothing:
        return await _nothing_said(request, "chat", body)
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw)
    return await _run(request, "chat", asked)


@router.get(
    "/tags",
    summary="The models of this machine",
    responses={200: schema.json_answer(answers.TagsBody, "The catalog."), **_errors(403, 429, 500)},
)
async def tags(request: Request) -> Response:
    """All that the catalog holds, by their names with `:latest`."""
    entries = visible(request, await service_of(request).describe_models())
    return json_response({"models": [answers.tag(entry, _precision(request, entry["name"])) for entry in entries]})


@router.get(
    "/ps",
    summary="The models in memory",
    responses={200: schema.json_answer(answers.RunningModelsBody, "Those that answer now."), **_errors(403, 429, 500)},
)
async def running(request: Request) -> Response:
    """`expires_at` is when an idle model leaves; far away for one that stays until its room is needed."""
    service = service_of(request)
    entries = [entry for entry in visible(request, await service.describe_models()) if entry["loaded"]]
    models = [answers.running(entry, _precision(request, entry["name"]), service.utc_in) for entry in entries]
    return json_response({"models": models})


@router.post(
    "/show",
    summary="What is known of a model",
    responses={200: schema.json_answer(answers.ShowBody, "The model."), **_errors(*_ANSWERED)},
    openapi_extra=schema.json_body(NameBody),
)
async def show(request: Request) -> Response:
    """Capabilities, sizes and the chat template."""
    name = await _name(request)
    caller_of(request).require_model(name)
    return json_response(answers.shown(await service_of(request).describe_model(name), _precision(request, name)))


@router.get(
    "/version",
    summary="The version of the API",
    responses={200: schema.json_answer(answers.VersionBody, "The versions."), **_errors(403, 429, 500)},
)
async def version() -> Response:
    """`version` is the Ollama version that this surface follows; `minivault` is this server's own."""
    return json_response({"version": FOLLOWED, "minivault": __version__})


@router.post(
    "/pull",
    summary="Download a model from the hub",
    responses=_PULLED,
    openapi_extra=schema.json_body(PullNameBody),
)
async def pull(request: Request) -> Response:
    """As `POST /models/pull`: for admins, and without keys from the server's machine alone. Streams JSON lines unless
    `"stream": false`."""
    body, _ = await parsed(request, PullNameBody)
    if body.called is None:
        raise InvalidRequest("model: is required", param="model")
    keeper, model = keeper_of(request), untagged(body.called)
    if await keeper.has(model):
        return _there_already(whole=body.stream is False)
    if body.stream is False:
        await streaming.unless_gone(request, keeper.pulled(model, None))
        return json_response(answers.PULLED)
    return await progress_stream(request, keeper, model, None, answers.pull_step, _pulled)


def _there_already(*, whole: bool) -> Response:
    """Clients pull before they ask, every time, and Ollama answers at once that it has the model."""
    if whole:
        return json_response(answers.PULLED)
    return Response(in_one_line(answers.PULLED) + "\n", media_type=streaming.NDJSON, headers=streaming.STREAM_HEADERS)


async def _pulled(keeper: Keeper, entry: ModelEntry) -> Mapping[str, str]:
    del keeper, entry
    return answers.PULLED


@router.delete(
    "/delete",
    summary="Remove a model's files",
    responses={200: {"description": "It is gone."}, **_errors(400, 403, 404, 409, 413, 415, 422, 429, 500, 503)},
    openapi_extra=schema.json_body(NameBody),
)
async def delete(request: Request) -> Response:
    """As `DELETE /models/{name}`."""
    name = await _name(request)
    await keeper_of(request).remove(name)
    return Response(status_code=200)


async def _name(request: Request) -> str:
    """The model that a body names.

    Raises:
        InvalidRequest: it names none.
    """
    body, _ = await parsed(request, NameBody)
    called = body.called
    if called is None:
        raise InvalidRequest("model: is required", param="model")
    return untagged(called)


def _precision(request: Request, model: str) -> str:
    precision: str = request.app.state.settings.precision_of(model)
    return precision


async def _nothing_said(request: Request, kind: answers.Kind, body: GenerateBody | ChatBody) -> Response:
    """The answer to a request that only loads or unloads. Nothing was generated, so nothing is recorded."""
    service = service_of(request)
    caller_of(request).require_model(untagged(body.model))
    if body.unloads:
        caller_of(request).require(Permission.MODELS)
        await service.unload_model(untagged(body.model))
    else:
        stay = caller_of(request).stay(body.keep_seconds)
        await streaming.unless_gone(request, service.load_model(untagged(body.model), stay))
    reason = "unload" if body.unloads else "load"
    return json_response(answers.nothing_said(kind, body.model, service.utc_now(), reason))


async def _run(request: Request, kind: answers.Kind, asked: GenerationRequest) -> Response:
    service = service_of(request)
    generation = await streaming.unless_gone(request, service.open(asked, caller_of(request)))
    token_bytes = generation.token_bytes if generation.wants_logprobs else None
    parser = generation.answer_parser()
    lines = answers.Lines(
        kind,
        generation,
        service.utc_now,
        token_bytes,
        parser,
        raw=asked.raw,
        shows_thinking=asked.think is not False,
    )
    if asked.stream:
        return streaming.GenerationStream(generation, lines, record_header(generation.intent))
    return await whole_answer(request, generation, lines.whole)
