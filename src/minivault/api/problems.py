"""The one mapping from errors to status and body, in the shape of each surface.

No message here or in the errors it maps ever echoes input. Knows nothing of what the routes do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from minivault import errors
from minivault.api.methods import methods_of
from minivault.api.wire.bounds import Place, Schema, place_of, schema_of, schema_of_parameters

Body = TypeVar("Body", bound=BaseModel)

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
    errors.TooManyOpenFiles: 503,
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
OPENAI_PREFIX = "/v1/"
_PLACE = re.compile(r"\.([0-9]+)(?![^.])")
"""Of an item in a list, in the path to a field."""
_PATH = re.compile(r"\w+(?:\.\w+)*")

_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

MOST_FAULTS = 64
"""Of one field, that are weighed against each other: a long list may have a fault an item."""
_OUR_WORDS = ("value_error", "form")
"""Kinds of faults whose words are ours; the words of all others come from the schema."""

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
        message, param = self.message, self.param
        if path.startswith(OPENAI_PREFIX) and param is not None:
            message, param = _as_openai_writes(message, param)
        return {"error": {"message": message, "type": self.type, "param": param, "code": self.code}}

    def response(self, path: str = "/") -> Response:
        """``path``: of the request, which chooses the shape."""
        body = json.dumps(self.body(path), ensure_ascii=False).encode()
        return Response(body, self.status, headers=self.headers, media_type="application/json")


def _as_openai_writes(message: str, param: str) -> tuple[str, str]:
    """``messages.0.content`` is ``messages[0].content`` there, in the path that a message begins with too."""
    path = _PATH.match(message)
    if path is not None and path[0].partition(".")[0] == param.partition(".")[0]:
        message = _PLACE.sub(r"[\1]", path[0]) + message[path.end() :]
    return message, _PLACE.sub(r"[\1]", param)


def problem_of(error: Exception, *, bound: bool = False) -> Problem:
    """The problem that an error is. An error from nowhere in our tree is a 500 that tells nothing.

    ``bound``: whoever reads it may use some models alone, and is told no other's name.
    """
    if isinstance(error, Problem):
        return error
    if bound and isinstance(error, errors.UnknownModel):
        return Problem(404, "No model of this name is here now.", code=error.code, param=error.param)
    if not isinstance(error, errors.MiniVaultError):
        return Problem(500, "Something went wrong on this side.", code="internal_error")
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {}
    if status in (429, 503) and (error.retry_after is not None or _may_pass(error)):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after or _DEFAULT_RETRY)))
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="MiniVault"'
    return Problem(status, error.message, code=error.code, param=error.param, headers=headers)


def _may_pass(error: errors.MiniVaultError) -> bool:
    """Whether it may go away by itself. What is wrong with the files of a model or of the vault does not."""
    return not isinstance(error, errors.CheckpointError | errors.VaultCorrupt)


def validated(model: type[Body], value: object) -> Body:
    """``value`` in the form of ``model``.

    Raises:
        Problem: a field is wrong; names it and its bounds.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _problem(
            error.errors(include_url=False, include_context=False, include_input=False), _schema_of(model)
        ) from None


@cache
def _schema_of(model: type[BaseModel]) -> Schema:
    return schema_of(model)


def _problem(faults: Sequence[Any], schema: Schema) -> Problem:
    """422 for the first field that is wrong: its name and its bounds, without what was sent."""
    fault, place = _told(faults, schema)
    name = place.name
    if fault["type"] == "extra_forbidden":
        # The name of an unknown field is the client's own text: named, but bounded and made printable.
        name = ".".join([*([name] if name else []), printable(str(fault["loc"][-1]))])
        said = "is not a field of this request"
    elif fault["type"] == "missing":
        said = "is required"
    elif fault["type"] in _OUR_WORDS:
        said = _sentence(fault["msg"])
    elif length := place.of_length(fault["type"]):
        said = f"must have {length}"
    else:
        said = f"must be {place.may_be}"
    return Problem(422, f"{name or 'body'}: {said}", code=_code_of(fault["type"]), param=name or None)


def _told(faults: Sequence[Any], schema: Schema) -> tuple[Any, Place]:
    """Which fault of a field is told: of a choice between types, the branch whose type was right knows what is wrong,
    and of two, the one that lies deeper."""
    told, found = faults[0], _place(faults[0], schema)
    whole = f"{found.name}."
    for fault in faults[1:MOST_FAULTS]:
        place = _place(fault, schema)
        if not f"{place.name}.".startswith(whole):
            break
        if _weight(fault, place) > _weight(told, found):
            told, found = fault, place
    return told, found


def _place(fault: Any, schema: Schema) -> Place:
    """Where a fault lies; of a field that is unknown, what it was sent in."""
    location = fault["loc"]
    return place_of(schema, location[:-1] if fault["type"] == "extra_forbidden" else location)


def _weight(fault: Any, place: Place) -> tuple[bool, int]:
    return not fault["type"].endswith("_type"), place.name.count(".")


def printable(name: str) -> str:
    """A name that a client thought of, as an error may show it."""
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


def method_not_allowed(methods: Sequence[str]) -> Problem:
    """405, which says what the path takes. What was sent may be any word, and is not repeated."""
    *others, last = methods
    said = f"{', '.join(others)} and {last}" if others else last
    return Problem(
        405, f"This path takes only {said}.", code="method_not_allowed", headers={"allow": ", ".join(methods)}
    )


def is_bound(request: Request) -> bool:
    """Whether the caller's key is bound to some models; of nobody that has not been let in."""
    return bool(getattr(getattr(request.state, "caller", None), "models", ()))


def install(app: FastAPI, routes: Sequence[BaseRoute] = ()) -> None:
    """Answer every error of ``app`` in the shape of its surface. ``routes``: all that it has."""

    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error, bound=is_bound(request)).response(request.scope["path"])

    async def parameter(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered below
        return _of_parameter(request, error).response(request.scope["path"])

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as registered below
        methods = methods_of(request.scope, routes) if error.status_code == 405 else ()
        problem = method_not_allowed(methods) if methods else _of_status(error.status_code, error.headers)
        return problem.response(request.scope["path"])

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(errors.MiniVaultError, ours)
    app.add_exception_handler(RequestValidationError, parameter)
    app.add_exception_handler(HTTPException, plain)


def _of_parameter(request: Request, error: RequestValidationError) -> Problem:
    """The problem of a parameter of a query or a path, in the bounds of the route that was found."""
    route = request.scope.get("route")
    taken = [*route.dependant.query_params, *route.dependant.path_params] if isinstance(route, APIRoute) else []
    faults = [{**fault, "loc": fault["loc"][1:]} for fault in error.errors()]  # the first part says query or path
    return _problem(faults, schema_of_parameters({one.name: one.field_info for one in taken}))


def _of_status(status: int, headers: Mapping[str, str] | None) -> Problem:
    phrase = HTTPStatus(status).phrase
    message = "There is nothing at this path." if status == 404 else phrase
    return Problem(status, message, code=phrase.lower().replace(" ", "_").replace("-", "_"), headers=headers)
