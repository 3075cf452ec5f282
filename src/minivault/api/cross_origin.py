"""What pages of other sites are told, where the setting `cors_origins` lists their origins: CORS, as the Fetch standard
has it.

Decides over origins and names of headers alone, and answers preflights before anything else sees them. Knows nothing of
keys, limits or routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Send

METHODS = "GET, HEAD, POST, PATCH, DELETE"
PREFLIGHT_SECONDS = 600

_TAKEN = re.compile(
    r"accept|authorization|content-type|user-agent|x-api-key|x-request-id|traceparent|tracestate"
    r"|(x-stainless|anthropic|openai|minivault)-[a-z0-9-]{1,64}"
)
"""Names of headers that a page may send: those that this server heeds, and those that the clients of OpenAI and
Anthropic send of themselves. What is none of these is not among those that a preflight permits."""
_SHOWN = (
    "x-request-id",
    "request-id",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-limit-concurrent",
    "x-ratelimit-remaining-concurrent",
    "x-ratelimit-reset-concurrent",
    "minivault-record",
    "minivault-from-record",
    "minivault-key",
    "www-authenticate",
    "content-disposition",
)
"""Headers of answers that a page may read, beside those that the standard shows to all."""


class CrossOrigin:
    """The origins that are listed, and what is said to their pages. Never with credentials of the browser's: a page
    shows its key itself."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        """``origins``: in the form in which browsers send them, which the settings see to."""
        self._origins = frozenset(origins)

    def lists(self, origin: str | None) -> bool:
        return origin is not None and origin in self._origins

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """The answer to a listed origin's preflight, which runs nothing; ``None`` where it is none."""
        origin = headers.get("origin")
        if method != "OPTIONS" or not self.lists(origin) or "access-control-request-method" not in headers:
            return None
        said = {
            "access-control-allow-origin": str(origin),
            "access-control-allow-methods": METHODS,
            "access-control-max-age": str(PREFLIGHT_SECONDS),
            "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
        }
        asked = [name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")]
        if taken := [name for name in asked if _TAKEN.fullmatch(name)]:
            said["access-control-allow-headers"] = ", ".join(taken)
        if headers.get("access-control-request-private-network") == "true":
            said["access-control-allow-private-network"] = "true"  # a listed origin may be on the open Internet
        return Response(status_code=204, headers=said)

    def shown(self, origin: str | None) -> dict[str, str]:
        """The headers that let a page of ``origin`` read an answer; none where it is not listed."""
        if origin is None or not self.lists(origin):
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": ", ".join(_SHOWN)}

    def showing(self, headers: Headers, send: Send) -> Send:
        """``send``, with what lets a listed origin's page read the answer. As it was, where no origin is listed."""
        if not self._origins:
            return send
        shown = self.shown(headers.get("origin"))

        async def send_shown(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                answer.update(shown)
            await send(message)

        return send_shown
