"""What a line of a batch is answered by its route. Knows nothing of batches."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from minivault.api import embeddings, openai, responses
from minivault.api.problems import is_bound, problem_of
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
    code: str | None = None
    """Of the error that it is."""


ENDPOINTS: Mapping[str, Route] = {
    "/v1/chat/completions": openai.chat_completions,
    "/v1/completions": openai.completions,
    "/v1/responses": responses.create,
    "/v1/embeddings": embeddings.openai_embeddings,
}


async def ask(path: str, request: Request) -> Answer:
    """Run a request. An error is an answer like any other."""
    request_id = request.state.request_id
    try:
        response = await ENDPOINTS[path](request)
    except Exception as error:
        return refusal(path, error, request_id, bound=is_bound(request))
    body = json.loads(bytes(response.body)) if response.body else None
    return Answer(response.status_code, body, request_id)


def refusal(path: str, error: Exception, request_id: str, *, bound: bool = False) -> Answer:
    """An error as the answer that it is. ``bound``: see :func:`problem_of`."""
    problem = problem_of(error, bound=bound)
    if problem.status == 500:
        logger.error("line of a batch failed", **describe_error(error))
    retry_after = float(problem.headers.get("retry-after", 1))
    return Answer(problem.status, problem.body(path), request_id, retry_after, problem.code)
