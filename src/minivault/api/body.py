"""From the bytes of a request to a JSON object, strictly: size, type, encoding, depth, and no two meanings.

Knows nothing of fields. Raises :class:`~minivault.api.problems.Problem`, and never puts input into a message.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.requests import Request

from minivault.api.problems import OLLAMA_PREFIX, Problem

MAX_DEPTH = 64
"""Levels of arrays and objects in a body."""

CURLS_OWN = "application/x-www-form-urlencoded"
OF_BROWSERS = ("origin", "referer", "cookie", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
"""Headers that browsers add by themselves."""

_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
"""A string without an end is one as far as the body goes: if no quote matched, each would be tried to the end again,
and that is quadratic."""
_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_json_object(
    request: Request, max_bytes: int, *, may_be_empty: bool = False
) -> tuple[dict[str, Any], bytes]:
    """Read and parse a body. Returns the object, and the bytes as they came. ``may_be_empty``: none at all is ``{}``.

    Raises:
        Problem: 400 not sound JSON, 413 too large, 415 not JSON, 422 not an object.
    """
    if may_be_empty and not _has_body(request):
        return {}, b""
    _require_json(request)
    raw = await _read(request, max_bytes)
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise Problem(422, "The body must be a JSON object.", code="invalid_type")
    return value, raw


def parse_json(raw: bytes) -> Any:
    """
    Raises:
        Problem: 400; says what is wrong, and where the first fault of the syntax lies, and repeats nothing.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(f"The body is not UTF-8, at byte {error.start + 1}.") from None
    if _too_deep(raw):
        raise _unreadable(f"The body is nested more than {MAX_DEPTH} levels deep.")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
    except Problem:
        raise
    except json.JSONDecodeError as error:
        raise _unreadable(f"The body is not valid JSON, at {_place(error)}.") from None
    except (ValueError, RecursionError):
        raise _unreadable("The body is not valid JSON.") from None
    if "\\u" in text and _has_surrogate(value):
        raise _unreadable("The body holds half of a surrogate pair, which is no character.")
    return value


def _place(error: json.JSONDecodeError) -> str:
    """A body in one line, as programs write it and files of batches have it, is counted in characters."""
    return f"line {error.lineno}, column {error.colno}" if "\n" in error.doc else f"character {error.colno}"


def _require_json(request: Request) -> None:
    media_type, charset = _type_of(request)
    if _is_plain_client_of_ollama(request, media_type):
        return
    if media_type != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise Problem(
            415,
            "Send JSON in UTF-8, with the header Content-Type: application/json (curl: -H 'Content-Type: "
            "application/json').",
            code="unsupported_media_type",
        )
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise Problem(415, "Compressed bodies are not taken: leave out Content-Encoding.", code="unsupported_encoding")


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _type_of(request: Request) -> tuple[str, str]:
    """The media type and the charset that a body is said to have, in lower case; empty where nothing is said."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    return media_type.strip().lower(), charset[1].lower() if charset else ""


def _is_plain_client_of_ollama(request: Request, media_type: str) -> bool:
    """Ollama takes JSON under any type: some of its clients (LiteLLM) name none, and ``curl -d``, as its manual has it,
    says ``application/x-www-form-urlencoded``.

    A page in a browser, whose forms and simple requests have these types too, cannot pass for such a client: on a POST
    every browser says where it comes from, in at least one header that no page can take away.
    """
    named = request.headers
    if not request.scope["path"].startswith(OLLAMA_PREFIX) or "content-encoding" in named:
        return False
    return media_type in ("", CURLS_OWN) and not any(name in named for name in OF_BROWSERS)


async def _read(request: Request, max_bytes: int) -> bytes:
    too_large = Problem(
        413,
        f"The body is larger than {max_bytes} bytes, the setting max_body_bytes of this server.",
        code="body_too_large",
        headers={"connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > max_bytes):
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise too_large
    if not body:
        raise _unreadable("The body is empty; send a JSON object.")
    return bytes(body)


def _too_deep(raw: bytes) -> bool:
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _STRUCTURE.finditer(raw):
        mark = match[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in (b"]", b"}"):
            depth -= 1
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _unreadable("An object in the body has the same key twice.")
    return found


def _no_constant(_name: str) -> Any:
    raise _unreadable("NaN and Infinity are not JSON.")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _unreadable("A number in the body is too large.")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 400:
        raise _unreadable("A number in the body is too large.")
    return int(digits)


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_has_surrogate(key) or _has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_surrogate(item) for item in value)


def _unreadable(message: str) -> Problem:
    return Problem(400, message, code="invalid_json")
