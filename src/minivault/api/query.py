"""Query parameters that a route does not have are refused, and so are those that come twice: a misspelt filter must
not become no filter, and of two only one would hold.

Knows nothing of what the routes do.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute

from minivault.api.problems import Problem, printable


async def only_known(request: Request) -> None:
    """A dependency of routers.

    Raises:
        Problem: 422, the request has a query parameter that its route does not take, or one twice. Names it, and in the
            first case those that it does.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or 422 not in route.responses:
        return
    known = {parameter.alias for parameter in route.dependant.query_params}
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is None:
        _refuse_repeats(request)
        return
    # The client's own text, as the name of an unknown field of a body is: named, but bounded and made printable.
    name = printable(unknown)
    takes = f"takes {', '.join(sorted(known))}" if known else "takes none"
    raise Problem(
        422, f"{name}: is not a query parameter of this path, which {takes}", code="unknown_field", param=name
    )


def _refuse_repeats(request: Request) -> None:
    """
    Raises:
        Problem: 422, a query parameter is there more than once; no route takes a list.
    """
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise Problem(422, f"{name}: must be given once", code="invalid_value", param=name)
        seen.add(name)
