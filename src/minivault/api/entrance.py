"""Where every request shows who sends it: key, permission, limits; and the limits' headers on the way out.

Pure ASGI: streams pass through untouched. Decided on ``scope["path"]``, which routes are chosen by too. Knows nothing
of bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minivault import circle
from minivault.access.caller import Caller
from minivault.access.gate import Gate
from minivault.access.limits import Kind, Quota, Verdict
from minivault.access.roles import Permission, Role
from minivault.api.methods import methods_of
from minivault.api.permissions import is_open, permission_of
from minivault.api.problems import Problem, method_not_allowed, problem_of
from minivault.errors import (
    InvalidRequest,
    KeysUnavailable,
    LimitsUnavailable,
    MiniVaultError,
    Unauthorized,
    limit_of,
)
from minivault.telemetry.metrics import Metrics

UNCOUNTED_PATHS = frozenset({"/health", "/metrics"})
"""Probes: not limited, though they need a key where keys are asked for."""
WORK = frozenset({Permission.GENERATE, Permission.REPLAY})
"""What runs a model: a key's bound on requests at one time counts it."""
ERRANDS = ("/v1/files", "/v1/batches")
"""They need the permission to generate, and run no model themselves: a batch's lines take the places."""
_OUTLIVED = "outlived"
WISH_HEADER = "MiniVault-Answer-From-Record"
CIRCLE = "This request has come through this server before: a model on the way asks it again, in a circle."
KEYS_ARE_MADE = "The first API key is made on the server's machine: minivault keys create NAME --role admin"


class Entrance:
    """Lets in who may, and leaves the :class:`Caller` in the request's state."""

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics, routes: Sequence[BaseRoute] = ()) -> None:
        """``routes``: where requests go that are let in. Those that are not are logged under them, and their methods
        are told where the path takes another than was sent."""
        self._routes = routes
        self._app = app
        self._gate = gate
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        quota = Quota()
        try:
            try:
                caller = self._caller(scope)
            except Unauthorized:
                # Guesses count against the address, and after too many of them the answer is 429.
                quota = self._gate.quota_of_address(address_of(scope))
                await quota.admit()
                raise
            scope.setdefault("state", {})["caller"] = caller  # a refusal is logged with its key too
            quota = caller.quota
            if not _is_uncounted(scope["method"], path):
                await quota.admit()
            needed = permission_of(scope["method"], path)
            if needed is None:
                self._refuse_method(scope)
            _authorise(caller, needed)
            if circle.enter(Headers(scope=scope).get(circle.HEADER, "")):
                raise Problem(508, CIRCLE, code="remote_circle")
            wish = wish_of(Headers(scope=scope)) if needed is Permission.GENERATE else None
            works = needed in WORK and not _is_errand(path)
            if works:
                quota.enter()
        except (MiniVaultError, Problem) as error:
            scope["route"] = route_of(scope, self._routes)
            problem = problem_of(error if "caller" in scope.get("state", {}) else _for_strangers(error))
            self._metrics.rejected(problem.code, limit_of(error))
            await problem.response(path)(scope, receive, _with_limits(send, quota))
            return
        if wish is not None:
            scope["state"]["caller"] = replace(caller, answer_from_record=wish)
        try:
            await self._app(scope, receive, _with_limits(send, quota))
        finally:
            if works and not scope["state"].get(_OUTLIVED):
                quota.leave()

    def _refuse_method(self, scope: Scope) -> None:
        """
        Raises:
            Problem: 405, there are routes at this path, and all of them take other methods.
        """
        methods = methods_of(scope, self._routes)
        if methods and scope["method"] not in methods:
            raise method_not_allowed(methods)

    def _caller(self, scope: Scope) -> Caller:
        """
        Raises:
            Unauthorized, KeysUnavailable: it may not come in.
        """
        return self._gate.caller(shown_key(Headers(scope=scope)), address_of(scope))


def _for_strangers(error: Exception) -> Exception:
    """What somebody is told who has shown no key that is known: not what this server lacks, or where."""
    if isinstance(error, KeysUnavailable):
        return KeysUnavailable("API keys cannot be checked now.", retry_after=error.retry_after)
    if isinstance(error, LimitsUnavailable):
        return LimitsUnavailable("Limits cannot be counted now.", retry_after=error.retry_after)
    return error


def _is_uncounted(method: str, path: str) -> bool:
    """Also a look at a batch, and its end: its own lines may have used up the key's window."""
    of_batch = path.startswith("/v1/batches/") and (method == "GET" or path.endswith("/cancel"))
    return path in UNCOUNTED_PATHS or of_batch


def _is_errand(path: str) -> bool:
    return path.startswith(ERRANDS) or (path.startswith("/v1/responses/") and path.endswith("/cancel"))


def outlive(scope: Scope) -> Callable[[], None]:
    """Keep the place that a request has among those of its key beyond its end, until what is given back is called."""
    scope["state"][_OUTLIVED] = True
    caller: Caller = scope["state"]["caller"]
    return caller.quota.leave


def _authorise(caller: Caller, needed: Permission | None) -> None:
    if needed is None:
        if caller.role in (None, Role.ADMIN):
            return
        raise Problem(404, "There is nothing at this path.", code="not_found")
    if needed is Permission.KEYS and caller.api_key_id is None:
        error = Unauthorized(KEYS_ARE_MADE)
        error.code = "no_api_keys"  # another key would not help
        raise error
    caller.require(needed)


def route_of(scope: Scope, routes: Sequence[BaseRoute]) -> BaseRoute | None:
    """The route that a refused request would have come to: the log and the metrics name it."""
    found = [(route, route.matches(scope)[0]) for route in routes]
    fits = [route for route, match in found if match is not Match.NONE]
    return next((route for route, match in found if match is Match.FULL), fits[0] if fits else None)


def address_of(scope: Scope) -> str:
    """The client's address as the socket has it, or as a trusted proxy says."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def shown_key(headers: Headers) -> str | None:
    """What the request shows as its key; ``None`` if nothing. Two different ones open no door.

    Raises:
        Unauthorized: there is more than one.
    """
    shown = {value.strip() for value in headers.getlist("x-api-key") if value.strip()}
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() == "bearer" and credentials.strip():
            shown.add(credentials.strip())
    ours = {value for value in shown if value.startswith("mv_")} or shown
    if len(ours) > 1:
        raise Unauthorized("More than one API key was sent: send one.")
    return next(iter(ours), None)


def wish_of(headers: Headers) -> bool | None:
    """Whether the request may be answered from the record; ``None`` where it does not say.

    Raises:
        InvalidRequest: it says neither true nor false.
    """
    said = headers.get(WISH_HEADER)
    if said is None:
        return None
    if said.lower() not in ("true", "false"):
        raise InvalidRequest(f"the header {WISH_HEADER} must be true or false", param=WISH_HEADER)
    return said.lower() == "true"


def limit_headers(verdicts: Mapping[Kind, Verdict]) -> dict[str, str]:
    """The IETF draft's names and OpenAI's, of the tightest window of each kind."""
    if not verdicts:
        return {}
    named = {("default" if kind == "requests" else kind): verdict for kind, verdict in verdicts.items()}
    headers = {
        "ratelimit-policy": ", ".join(f'"{name}";q={one.limit};{_of_what(one)}' for name, one in named.items()),
        "ratelimit": ", ".join(f'"{name}";r={one.remaining};t={one.retry_after}' for name, one in named.items()),
    }
    for kind, verdict in verdicts.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(verdict.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(verdict.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = f"{verdict.retry_after}s"
    return headers


def _of_what(verdict: Verdict) -> str:
    return f"w={verdict.window}" if verdict.window else 'qu="concurrent-requests"'


def _with_limits(send: Send, quota: Quota) -> Send:
    async def send_with_limits(message: Message) -> None:
        if message["type"] == "http.response.start" and quota.verdicts:
            MutableHeaders(scope=message).update(limit_headers(quota.verdicts))
        await send(message)

    return send_with_limits
