"""The OpenAI surface: ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``.

Parses once, asks the service, writes the answer. Knows nothing of engines or of the vault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from minivault.api import schema, streaming
from minivault.api.health import service_of, visible
from minivault.api.native import caller_of, json_response, parsed, record_header
from minivault.api.wire import openai_answers as answers
from minivault.api.wire.anthropic_answers import ModelInfo, ModelPage, model_info, model_page
from minivault.api.wire.openai import ChatCompletionRequest, CommonRequest, CompletionRequest
from minivault.errors import UnknownModel
from minivault.generation import Completion, FinishReason, GenerationRequest
from minivault.models.naming import untagged
from minivault.service import Choices, spread

OWNER = "minivault"
_ANSWERED = (400, 403, 404, 413, 415, 422, 429, 500, 503)

router = APIRouter(prefix="/v1", tags=["openai"])


def _answered(model: type[answers.AnswerBody]) -> dict[int | str, dict[str, Any]]:
    ok = schema.json_answer(model, "The answer. A stream that fails says so in an event, and ends without `[DONE]`.")
    ok["content"][streaming.SSE] = schema.EVENTS
    return {200: ok, **schema.error_responses(*_ANSWERED)}


@router.post(
    "/chat/completions",
    summary="Answer a conversation",
    responses=_answered(answers.ChatCompletionBody),
    openapi_extra=schema.json_body(ChatCompletionRequest),
)
async def chat_completions(request: Request) -> Response:
    """As OpenAI's, for any of its clients; with `"stream": true` in pieces, as Server-Sent Events."""
    body, raw = await parsed(request, ChatCompletionRequest)
    opening = _chat(request, body, raw)
    return await (streaming.kept_alive(request, opening, answers.failure) if body.stream else opening)


async def _chat(request: Request, body: ChatCompletionRequest, raw: bytes) -> Response:
    asked = body.to_generation(request_id=request.state.request_id, raw_request=raw)
    opening = service_of(request).open_all(spread(asked, body.choices), caller_of(request))
    choices = await streaming.unless_gone(request, opening)
    head = _head_of(request, "chatcmpl-", body, choices)
    words = _words_of(choices) if body.logprobs else None
    parsers = [generation.answer_parser() for generation in choices.generations]
    if asked.stream:
        framing = answers.ChatFraming(head, includes_usage=body.includes_usage, words=words, parsers=parsers)
        return _streamed(choices, framing)
    return await _whole(request, choices, lambda ended: answers.chat_answer(head, ended, words, parsers))


@router.post(
    "/completions",
    summary="Go on with a text",
    responses=_answered(answers.TextCompletionBody),
    openapi_extra=schema.json_body(CompletionRequest),
)
async def completions(request: Request) -> Response:
    """As OpenAI's: bare prompts, as text or as token ids, without the model's chat template."""
    body, raw = await parsed(request, CompletionRequest)
    opening = _completions(request, body, raw)
    return await (streaming.kept_alive(request, opening, answers.failure) if body.stream else opening)


async def _completions(request: Request, body: CompletionRequest, raw: bytes) -> Response:
    asked = body.to_generations(request_id=request.state.request_id, raw_request=raw)
    opening = service_of(request).open_all(_spread_all(asked, body.choices), caller_of(request))
    choices = await streaming.unless_gone(request, opening)
    head = _head_of(request, "cmpl-", body, choices)
    words = None if body.logprobs is None else _words_of(choices)
    if body.stream:
        framing = answers.TextFraming(head, includes_usage=body.includes_usage, words=words)
        return _streamed(choices, framing)
    return await _whole(request, choices, lambda ended: answers.text_answer(head, ended, words))


Version = Annotated[
    str | None,
    Header(alias="anthropic-version", description="Sent by Anthropic's clients, which get the list in their form."),
]


@router.get(
    "/models",
    summary="The models that answer",
    responses={
        200: schema.json_answer_of((answers.ModelList, ModelPage), "The models, as OpenAI or Anthropic lists them."),
        **schema.error_responses(403, 422, 429, 500),
    },
)
async def models(
    request: Request,
    version: Version = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of Anthropic's form.")] = 20,
    after_id: Annotated[str | None, Query(max_length=200, description="Of Anthropic's form.")] = None,
    before_id: Annotated[str | None, Query(max_length=200, description="Of Anthropic's form.")] = None,
) -> Response:
    """All that the catalog holds: one that is not in memory is loaded when it is asked for."""
    listed = await _listed(request)
    if version is None:
        return json_response({"object": "list", "data": [_card(entry) for entry in listed]})
    infos = [model_info(entry["name"], entry["modified_at"]) for entry in listed]
    return json_response(model_page(infos, limit, after_id, before_id))


@router.get(
    "/models/{model_id:path}",
    summary="One model that answers",
    responses={
        200: schema.json_answer_of((answers.ModelCard, ModelInfo), "The model, as OpenAI or Anthropic shows it."),
        **schema.error_responses(403, 404, 422, 429, 500),
    },
)
async def model(request: Request, model_id: str, version: Version = None) -> Response:
    """404 with the code `model_not_found` if there is none of this name."""
    for entry in await _listed(request):
        if entry["name"] == untagged(model_id):
            return json_response(_card(entry) if version is None else model_info(model_id, entry["modified_at"]))
    raise UnknownModel("No model of this name answers here; GET /v1/models lists those that do.", param="model")


async def _listed(request: Request) -> Sequence[Mapping[str, Any]]:
    return visible(request, await service_of(request).list_models())


def _card(entry: Mapping[str, Any]) -> dict[str, Any]:
    created = _seconds(entry["modified_at"])
    return {"id": entry["name"], "object": "model", "created": created, "owned_by": OWNER}


def _spread_all(asked: Sequence[GenerationRequest], count: int) -> list[GenerationRequest]:
    """The choices of several prompts: those of one follow each other."""
    return [choice for place, one in enumerate(asked) for choice in spread(one, count, first=place * count)]


def _words_of(choices: Choices) -> list[answers.TokenWords]:
    """Of each choice its own: tokens that another server told are numbered within one answer alone."""
    return [generation.tokenizer for generation in choices.generations]


def _head_of(request: Request, prefix: str, body: CommonRequest, choices: Choices) -> answers.AnswerHead:
    first = choices.generations[0]
    return answers.AnswerHead(
        id=prefix + first.id,
        created=_seconds(service_of(request).utc_now()),
        model=first.model,
        fingerprint=first.fingerprint,
        choices=len(choices.generations),
        choices_a_prompt=body.choices,
    )


def _streamed(choices: Choices, framing: streaming.Framing) -> Response:
    return streaming.GenerationStream(choices, framing, record_header(choices.generations[0].intent))


async def _whole(
    request: Request, choices: Choices, answer: Callable[[Sequence[Completion]], Mapping[str, Any]]
) -> Response:
    try:
        async with streaming.cancelled_by_disconnect(request.receive, choices):
            ended = await choices.result()
    finally:
        choices.close()
    if any(one.finish_reason is FinishReason.CANCELLED for one in ended):
        return Response(status_code=499)  # nobody is there to read it
    return json_response(answer(ended), headers=record_header(ended[0].record))


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())
