"""Which methods a path takes: read from the routes that there are. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

ORDER = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def methods_of(scope: Scope, routes: Iterable[BaseRoute]) -> tuple[str, ...]:
    """The methods of all ``routes`` at the request's path; HEAD wherever GET is. Empty: nothing is at this path."""
    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    if "GET" in found:
        found.add("HEAD")
    return tuple(method for method in ORDER if method in found)
