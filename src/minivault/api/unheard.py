"""What is answered to a request that never reaches the application: no HTTP, too large, too slow, or one too many.

Knows nothing of sockets or deadlines: whoever holds the connection says which it is, and writes the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers

from minivault.api.cross_origin import CrossOrigin
from minivault.api.middleware import request_id_of
from minivault.api.problems import ANTHROPIC_PREFIX, Problem


def too_many_connections() -> Problem:
    return Problem(
        503,
        "This server has too many connections. Try again in a moment.",
        code="too_many_connections",
        headers={"retry-after": "1"},
    )


def not_http() -> Problem:
    return Problem(400, "This is not a sound HTTP request.", code="invalid_http")


def too_slow() -> Problem:
    return Problem(408, "The request did not come in time.", code="request_timeout")


def head_too_large(max_bytes: int, max_headers: int) -> Problem:
    return Problem(
        431,
        f"The request's head is larger than {max_bytes} bytes or has over {max_headers} headers.",
        code="head_too_large",
    )


def as_http(
    problem: Problem,
    target: bytes = b"",
    came: Iterable[tuple[bytes, bytes]] = (),
    cross_origin: CrossOrigin | None = None,
) -> bytes:
    """A whole HTTP/1.1 response, after which the connection ends. ``target`` and ``came``: what came of the request's
    target and headers, maybe nothing. The one chooses the shape, as the path of a request that is heard does; the
    others say its id, and whose page may read the answer."""
    path = target.partition(b"?")[0].decode("ascii", "replace")
    body = json.dumps(problem.body(path)).encode()
    known = Headers(raw=list(came))
    origins = known.getlist("origin")
    shown = cross_origin.shown(origins[0]) if cross_origin is not None and len(origins) == 1 else {}
    request_id = request_id_of(known)
    headers = {
        "content-type": "application/json",
        **problem.headers,
        **shown,
        "x-request-id": request_id,
        **({"request-id": request_id} if path.startswith(ANTHROPIC_PREFIX) else {}),
        "x-content-type-options": "nosniff",
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{lines}\r\n".encode() + body
