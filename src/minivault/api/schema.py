"""The OpenAPI document: made from the routes and the wire models, in version 3.0, which the bundled Swagger UI reads.

Bodies are parsed by hand, so routes name their models here. Knows nothing of what routes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from minivault.api.permissions import is_open
from minivault.api.wire import native

EVENTS: Mapping[str, Any] = {"schema": {"description": "Server-Sent Events."}}
"""Of no type: to some readers it is that of the whole body, to others that of an event."""

OPENAPI_VERSION = "3.0.3"
TIMEOUT_PATTERN = (
    r"^(([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2})(\.[0-9]{1,6})?|86400(\.0{1,6})?"
    r"|0\.([1-9][0-9]{0,5}|0[1-9][0-9]{0,4}|00[1-9][0-9]{0,3}|000[1-9][0-9]{0,2}|0000[1-9][0-9]?|00000[1-9]))$"
)
"""Seconds above 0 and up to 86400, to the microsecond: what the header `MiniVault-Timeout` is held to."""
_REF = "#/components/schemas/"

_ERRORS: Mapping[int, str] = {
    400: "The body cannot be read: not UTF-8, not JSON, nested too deep, or a key twice.",
    401: "An API key is needed, and none was shown, or one that is unknown, revoked or expired.",
    403: "The API key may not do this, or the Host or Origin is not one that this server answers to.",
    404: "No such model, record or path.",
    409: "The model is in use, or the server's default.",
    413: "The body is larger than the server's limit.",
    415: "The body is not `application/json`.",
    422: "A field is wrong; the message names it and its bounds.",
    429: "Too many requests or tokens of this key or address; see `Retry-After`.",
    500: "Something broke on this side. If it broke after work had begun, the call is recorded as failed.",
    503: "The server cannot take this now: loading, full, shutting down, or the vault cannot be written.",
    504: "It took longer than `timeout`, `MiniVault-Timeout` or the server's `request_timeout` allow.",
}

_WAIT = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_COUNTED = {
    "RateLimit-Policy": {
        "description": "The limits, as the IETF's draft writes them: `q` in `w` seconds, or at one time.",
        "schema": {"type": "string"},
    },
    "RateLimit": {"description": "What is left of them, `r`, for `t` seconds.", "schema": {"type": "string"}},
}
_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    429: _WAIT | _COUNTED,
    503: _WAIT,
}

_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, as `Authorization: Bearer`."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, as Anthropic's."},
}
GENERATING = (
    "/generate",
    "/generate/stream",
    "/generate-stream",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/generate",
    "/api/chat",
)
TIMED = (
    "/embed",
    "/v1/embeddings",
    "/api/embed",
    "/api/embeddings",
    "/v1/messages/count_tokens",
    "/v1/responses/input_tokens",
)
"""What may be told how long to take, beside what generates; and a replay."""
_FROM_RECORD_ASKED = {
    "name": "MiniVault-Answer-From-Record",
    "in": "header",
    "required": False,
    "description": "Whether a request that repeats a recorded one, with equal weights, prompt, parameters and (where "
    "tokens are drawn) seed, may get the recorded answer. Default: the setting answer_from_record.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}
_TIMEOUT_ASKED = {
    "name": "MiniVault-Timeout",
    "in": "header",
    "required": False,
    "description": "Most seconds that the request may take, waiting included; the tightest of this, `timeout` and the "
    "setting request_timeout counts.",
    "schema": {"type": "string", "pattern": TIMEOUT_PATTERN},
}
_FROM_RECORD = {
    "description": "The record that the answer was taken from; of several answers, the first. Absent where it was "
    "generated.",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
_METHODS = ("get", "put", "post", "delete", "patch")

_models: set[type[BaseModel]] = {native.ErrorBody}
_asked: set[type[BaseModel]] = set()
"""Those that are parsed from a body, and so described as what may be sent."""


def error_responses(*statuses: int, body: type[BaseModel] = native.ErrorBody) -> dict[int | str, dict[str, Any]]:
    """Documentation of error statuses, all in the shape of ``body``."""
    return {status: _error(status, body) for status in statuses}


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` for a route that parses ``model`` from the body by itself."""
    _asked.add(model)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": ref(model)}}}}


def json_answer(model: type[BaseModel], description: str) -> dict[str, Any]:
    """Documentation of an answer in the shape of ``model``."""
    return {"description": description, "content": {"application/json": {"schema": ref(model)}}}


def json_answer_of(models: Iterable[type[BaseModel]], description: str) -> dict[str, Any]:
    """Documentation of an answer in one of several shapes."""
    shapes = {"anyOf": [ref(model) for model in models]}
    return {"description": description, "content": {"application/json": {"schema": shapes}}}


def ref(model: type[BaseModel]) -> dict[str, str]:
    _models.add(model)
    return {"$ref": _REF + model.__name__}


def generate_responses(*, whole: bool) -> dict[int | str, dict[str, Any]]:
    """What the three generate routes answer; ``whole``: also as one JSON object."""
    text = {"schema": {"type": "string"}}
    content: dict[str, Any] = {"application/json": {"schema": ref(native.GenerateResponse)}} if whole else {}
    content |= {"text/event-stream": EVENTS, "application/x-ndjson": text, "text/plain": text}
    record = {
        "description": "The record of the call, as INDEX:LEAF; of a stream, the record of its beginning.",
        "schema": {"type": "string"},
    }
    ok = {
        "description": "The answer. A stream that fails says so in an event of its own, and plain text by a cut.",
        "content": content,
        "headers": {"MiniVault-Record": record},
    }
    return {200: ok, **error_responses(400, 403, 404, 413, 415, 422, 429, 500, 503)}


def install(app: FastAPI) -> None:
    """Make ``app.openapi()`` give the document of this module."""

    def openapi() -> dict[str, Any]:
        document = app.openapi_schema or _document(app)
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        openapi_version=OPENAPI_VERSION,
    )
    _, definitions = models_json_schema(
        [(model, "validation" if model in _asked else "serialization") for model in _ordered()],
        ref_template=_REF + "{model}",
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components |= definitions.get("$defs", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    _ask_for_keys(document)
    _offer_records(document)
    converted: dict[str, Any] = _to_3_0(document)
    return converted


def _ask_for_keys(document: dict[str, Any]) -> None:
    """Every operation but the open ones takes a key, and answers 401 in the shape of its surface's other errors; what
    it is refused for by the entrance is told too."""
    document["components"]["securitySchemes"] = dict(_SCHEMES)
    for path, operations in document["paths"].items():
        if is_open(path):
            continue
        for operation in (operations[method] for method in _METHODS if method in operations):
            operation["security"] = [{name: []} for name in _SCHEMES] + [{}]
            answers = operation["responses"]
            shape = next((answers[code]["content"] for code in ("403", "429", "422") if code in answers), None)
            late = (504,) if "429" in answers and "500" in answers else ()
            for status in (401, 429, 503, *late):
                known = answers.setdefault(str(status), _error(status, native.ErrorBody))
                if shape is not None:
                    known["content"] = shape


def _offer_records(document: dict[str, Any]) -> None:
    """What generates may be answered from the record, and then says so."""
    for path in GENERATING:
        operation = document["paths"][path]["post"]
        operation.setdefault("parameters", []).extend([dict(_FROM_RECORD_ASKED), dict(_TIMEOUT_ASKED)])
        operation["responses"]["200"].setdefault("headers", {})["MiniVault-From-Record"] = dict(_FROM_RECORD)
    replays = [path for path in document["paths"] if path.endswith("/replay")]
    for path in (*TIMED, *replays):
        document["paths"][path]["post"].setdefault("parameters", []).append(dict(_TIMEOUT_ASKED))


def _ordered() -> Iterable[type[BaseModel]]:
    return sorted(_models, key=lambda model: model.__name__)


def _error(status: int, body: type[BaseModel]) -> dict[str, Any]:
    documented = json_answer(body, _ERRORS[status])
    return documented | ({"headers": dict(_HEADERS[status])} if status in _HEADERS else {})


def _to_3_0(value: Any) -> Any:
    """JSON Schema 2020 as pydantic writes it, in the words of OpenAPI 3.0."""
    if isinstance(value, list):
        return [_to_3_0(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _to_3_0(item) for name, item in value.items()}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(found.get(exclusive), (int, float)) and not isinstance(found[exclusive], bool):
            found |= {bound: found[exclusive], exclusive: True}
    if "const" in found:
        found["enum"] = [found.pop("const")]
    return _nullable(found) if isinstance(found.get("anyOf"), list) else found


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    if len(choices) == len(schema["anyOf"]):
        return schema
    rest = {name: item for name, item in schema.items() if name not in ("anyOf", "default") or item is not None}
    rest.pop("anyOf", None)
    if len(choices) > 1:
        return rest | {"anyOf": choices, "nullable": True}
    if "$ref" in choices[0]:
        return rest | {"allOf": choices, "nullable": True}
    only: dict[str, Any] = choices[0]
    return only | rest | {"nullable": True}
