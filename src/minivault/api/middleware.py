"""What happens to every request before a route sees it: an id, and the door's checks; and after: a log line.

Pure ASGI: streams pass through untouched. Knows nothing of bodies.
"""

from __future__ import annotations

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minivault.access.caller import Caller
from minivault.access.guard import HostGuard
from minivault.access.proxies import TrustedProxies
from minivault.api.cross_origin import CrossOrigin
from minivault.api.problems import ANTHROPIC_PREFIX, Problem, problem_of
from minivault.batches.names import PREFIX
from minivault.telemetry.logging import bound_request, describe_error, get_logger
from minivault.telemetry.metrics import Metrics
from minivault.telemetry.tracing import NO_TRACING, Tracing

QUIET_PATHS = frozenset({"/livez", "/readyz", "/health", "/metrics"})

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SECURITY_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
)

logger = get_logger("minivault.http")


class ClientAddress:
    """Puts the client's address in place of a trusted proxy's. No other header can change it."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client:
            address = self._proxies.client(client[0], Headers(scope=scope).getlist("x-forwarded-for"))
            if address != client[0]:
                scope = {**scope, "client": (address, 0)}
        await self._app(scope, receive, send)


class RequestContext:
    """Gives the request its id, counts and logs its end, and turns what nobody caught into a plain 500."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        tracing: Tracing = NO_TRACING,
        cross_origin: CrossOrigin | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing
        self._cross_origin = cross_origin or CrossOrigin()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        tracing = NO_TRACING if scope["path"] in QUIET_PATHS else self._tracing
        scope.setdefault("state", {})["request_id"] = request_id
        begun = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if scope["path"].startswith(ANTHROPIC_PREFIX):
                    headers.setdefault("request-id", request_id)  # by which Anthropic's clients know it
                for name, value in _SECURITY_HEADERS:
                    headers.setdefault(name, value)
            await send(message)

        with bound_request(request_id), tracing.request(_known_method(scope["method"]), Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                logger.debug("client left while sending its request")
            except Exception as error:
                logger.error("unexpected error", **describe_error(error))  # noqa: TRY400 - a traceback may hold input
                if status:
                    raise _cut() from None
                shown = self._cross_origin.showing(Headers(scope=scope), send_with_id)
                await problem_of(error).response(scope["path"])(scope, receive, shown)
            finally:
                span.route, span.status = getattr(scope.get("route"), "path", None), status
                self._note(scope, status, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self._metrics.answered(route, _known_method(scope["method"]), status)
        # Probes come every few seconds; their lines would bury the others.
        log = logger.debug if route in QUIET_PATHS and status != 500 else logger.info
        told = {"method": _known_method(scope["method"]), "route": route, "status": status}
        caller: Caller | None = scope["state"].get("caller")
        if caller is not None and caller.api_key_id is not None:
            told["key"] = caller.api_key_id
        log("request", **told, ms=round(seconds * 1e3, 1))


class Door:
    """Answers only to its own names, and refuses requests that another site's page makes, unless its origin is listed.
    Preflights of listed origins end here."""

    def __init__(self, app: ASGIApp, guard: HostGuard, cross_origin: CrossOrigin, metrics: Metrics) -> None:
        self._app = app
        self._guard = guard
        self._cross_origin = cross_origin
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(headers)
        if problem is not None:
            self._metrics.rejected(problem.code)
            await problem.response(scope["path"])(scope, receive, send)
        elif (answer := self._cross_origin.preflight(scope["method"], headers)) is not None:
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, self._cross_origin.showing(headers, send))

    def _problem(self, headers: Headers) -> Problem | None:
        host = headers.get("host")
        if not self._guard.permits_host(host) or len(headers.getlist("host")) > 1:
            return Problem(
                403, "This server does not answer to that Host name; see allowed_hosts.", code="host_not_allowed"
            )
        origin = headers.get("origin")
        one = len(headers.getlist("origin")) <= 1
        if not one or not (self._cross_origin.lists(origin) or self._guard.permits_origin(origin, host)):
            return Problem(
                403, "Pages of other sites may not use this server; see cors_origins.", code="origin_not_allowed"
            )
        return None


class HeadAsGet:
    """Answers HEAD wherever GET is answered, with the same headers and no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self._app(as_get, receive, send_without_body)
        finally:
            scope["route"] = as_get.get("route")


def request_id_of(headers: Headers) -> str:
    """The client's own id if it is sane, else a new one.

    Digits alone are not: they name records by their index. Nor are dots alone, which clients take out of paths, and one
    that could name a line of a batch: if that call were erased, the line would be.
    """
    given = headers.get("x-request-id", "")
    sane = _SANE_ID.fullmatch(given) and not given.isdigit() and given.strip(".") and not given.startswith(PREFIX)
    return given if sane else uuid.uuid4().hex


def _known_method(method: str) -> str:
    """A client can send any word as a method; labels and logs take only these."""
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "OTHER"


def _cut() -> Exception:
    """After the start of a response only a cut connection can tell; the server cuts on any error."""
    return ConnectionAbortedError("the response was cut after an error")
