"""Query parameters that a route does not have are refused: a misspelt filter must not become no filter.

Knows nothing of what the routes do.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute

from minivault.errors import InvalidRequest


async def only_known(request: Request) -> None:
    """A dependency of routers.

    Raises:
        InvalidRequest: the request has a query parameter that its route does not take. Names those that it does.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or 422 not in route.responses:
        return
    known = {parameter.alias for parameter in route.dependant.query_params}
    if all(name in known for name in request.query_params):
        return
    takes = ", ".join(sorted(known)) or "none"
    raise InvalidRequest(f"a query parameter is unknown here; this path takes: {takes}", param="query")
