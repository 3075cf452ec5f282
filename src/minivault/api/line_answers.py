"""What a line of a batch is answered: by its route, or from the record of a call that an earlier process made.

Knows nothing of batches, or of how records are kept.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from minivault.api import again, embeddings, openai, responses
from minivault.api.problems import problem_of
from minivault.api.wire.responses import SURFACE
from minivault.errors import UnknownRecord
from minivault.service import EarlierCall, Service
from minivault.telemetry.logging import describe_error, get_logger

logger = get_logger(__name__)
Route = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    request_id: str
    retry_after: float = 1.0
    """Seconds; of a status that says: not now."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    route: Route
    surface: str
    rebuild: Callable[[bytes, list[EarlierCall]], Mapping[str, Any] | None] | None
    """The answer again, from the calls that were made; ``None`` where records do not hold enough."""
    calls: Callable[[bytes], int] = lambda _: 1
    """How many calls a body asks for."""


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(openai.chat_completions, "openai", again.chat, again.calls_of_chat),
    "/v1/completions": Endpoint(openai.completions, "openai", again.text, again.calls_of_text),
    "/v1/responses": Endpoint(responses.create, SURFACE, again.response),
    "/v1/embeddings": Endpoint(embeddings.openai_embeddings, "openai", None),
}


async def ask(path: str, request: Request) -> Answer:
    """Run a request. An error is an answer like any other."""
    request_id = request.state.request_id
    try:
        response = await ENDPOINTS[path].route(request)
    except Exception as error:
        return refusal(path, error, request_id)
    body = json.loads(bytes(response.body)) if response.body else None
    return Answer(response.status_code, body, request_id)


def refusal(path: str, error: Exception, request_id: str) -> Answer:
    """An error as the answer that it is."""
    problem = problem_of(error)
    if problem.status == 500:
        logger.error("line of a batch failed", **describe_error(error))
    return Answer(problem.status, problem.body(path), request_id, float(problem.headers.get("retry-after", 1)))


async def recorded(app: FastAPI, path: str, body: bytes, request_id: str) -> Answer | None:
    """The answer of the call ``request_id``, if it came to its end and was asked the same; else ``None``."""
    endpoint = ENDPOINTS[path]
    service: Service = app.state.service
    if endpoint.rebuild is None:
        return None
    ids = [request_id, *(f"{request_id}.{place}" for place in range(1, endpoint.calls(body)))]
    try:
        calls = [await service.records.earlier(one, endpoint.surface) for one in ids]
        # One body is kept for all choices, with the first; vaults of earlier versions have it with each.
        same = calls[0].body == body and all(call.body in (b"", body) for call in calls[1:])
        again = endpoint.rebuild(body, calls) if same else None
    except (UnknownRecord, ValidationError, ValueError):
        return None
    return None if again is None else Answer(200, again, request_id)
