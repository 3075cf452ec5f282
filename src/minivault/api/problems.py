"""The one mapping from errors to status and body, in the shape of each surface.

No message here or in the errors it maps ever echoes input. Knows nothing of what the routes do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from minivault import errors

_STATUS: Mapping[type[errors.MiniVaultError], int] = {
    errors.InvalidRequest: 422,
    errors.UnknownModel: 404,
    errors.UnknownRecord: 404,
    errors.ModelInUse: 409,
    errors.UnknownKey: 404,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.RateLimited: 429,
    errors.CallerError: 400,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
    errors.Draining: 503,
    errors.ModelNotReady: 503,
    errors.LedgerUnavailable: 503,
    errors.KeysUnavailable: 503,
    errors.LimitsUnavailable: 503,
    errors.HubUnavailable: 503,
    errors.VaultCorrupt: 503,
    errors.CheckpointError: 503,
    errors.MiniVaultError: 500,
}

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
    504: "timeout_error",
}

OLLAMA_PREFIX = "/api/"
ANTHROPIC_PREFIX = "/v1/messages"

_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_DEFAULT_RETRY = 5.0
"""Seconds; for a 503 whose error does not say when to come back."""


class Problem(Exception):
    """An error as the wire shows it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        return _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self, path: str = "/") -> dict[str, Any]:
        """In the shape of the surface that ``path`` belongs to; the native one is OpenAI's too."""
        if path.startswith(OLLAMA_PREFIX):
            return {"error": self.message}
        if path.startswith(ANTHROPIC_PREFIX):
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self, path: str = "/") -> Response:
        """``path``: of the request, which chooses the shape."""
        body = json.dumps(self.body(path), ensure_ascii=False).encode()
        return Response(body, self.status, headers=self.headers, media_type="application/json")


def problem_of(error: Exception) -> Problem:
    """The problem that an error is. An error from nowhere in our tree is a 500 that tells nothing."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, (ValidationError, RequestValidationError)):
        return validation_problem(error)
    if not isinstance(error, errors.MiniVaultError):
        return Problem(500, "Something went wrong on this side.", code="internal_error")
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {}
    if status in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or _DEFAULT_RETRY)))
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="MiniVault"'
    return Problem(status, error.message, code=error.code, param=error.param, headers=headers)


def validation_problem(error: ValidationError | RequestValidationError) -> Problem:
    """422 for the first field that is wrong: its name and the bound, without what was sent."""
    everything = error.errors()  # made anew by each call: a long list has a fault an item
    faults = [fault for fault in everything if fault["loc"][:1] == everything[0]["loc"][:1]]
    # Of a choice between types, the branch whose type was right knows what is wrong.
    fault = next((fault for fault in faults if not fault["type"].endswith("_type")), faults[0])
    location = [str(part) for part in fault["loc"]]
    if isinstance(error, RequestValidationError):
        location = location[1:]  # "query" or "path"
    unknown = fault["type"] == "extra_forbidden"
    if unknown:
        # The name of an unknown field is the client's own text: named, but bounded and made printable.
        location[-1] = _printable(location[-1])
    param = ".".join([*location[:1], *(part for part in location[1:] if not _is_union_tag(part))]) or None
    said = "is not a field of this request" if unknown else _sentence(fault["msg"])
    return Problem(422, f"{param or 'body'}: {said}", code=_code_of(fault["type"]), param=param)


def _is_union_tag(part: str) -> bool:
    return part in ("str", "int", "float", "bool", "constrained-str") or "[" in part


def _printable(name: str) -> str:
    kept = "".join(character for character in name if character.isprintable())
    return kept if len(kept) <= 64 else kept[:64] + "..."


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _code_of(kind: str) -> str:
    if kind == "extra_forbidden":
        return "unknown_field"
    if kind == "missing":
        return "missing_field"
    return "invalid_type" if kind.endswith("_type") else "invalid_value"


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` in the shape of its surface."""

    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error).response(request.scope["path"])

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as registered below
        return _of_status(error.status_code, error.headers).response(request.scope["path"])

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(errors.MiniVaultError, ours)
    app.add_exception_handler(RequestValidationError, ours)
    app.add_exception_handler(ValidationError, ours)
    app.add_exception_handler(HTTPException, plain)


def _of_status(status: int, headers: Mapping[str, str] | None) -> Problem:
    phrase = HTTPStatus(status).phrase
    message = {404: "There is nothing at this path.", 405: "This path does not take this method."}.get(status, phrase)
    return Problem(status, message, code=phrase.lower().replace(" ", "_").replace("-", "_"), headers=headers)
