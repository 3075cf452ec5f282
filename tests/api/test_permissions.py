"""Who may use which route. A route that nobody has thought of fails here: give it a row in ``api/permissions.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from minivault.access.roles import Permission, granted
from minivault.api.app import create_app
from minivault.api.permissions import OPEN_PATHS, OPEN_PREFIXES, is_open, permission_of
from minivault.settings import Settings
from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench

OPEN = {"/", "/livez", "/readyz", "/favicon.ico", "/docs", "/openapi.json"}
"""What docs/keys.md and SECURITY.md say is open to everybody, beside the pages' files."""


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path of the application; parameters are filled with a word."""
    app = create_app(Settings(), service=make_bench().service)
    for route in _walked(app.routes):
        for method in sorted(route.methods or ()):
            yield method, re.sub(r"\{[^}]+\}", "x", route.path)


def _walked(found: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        else:
            # A router that was included. Anything else, such as a mount, needs a thought of its own, and fails here.
            yield from _walked(route.original_router.routes)  # type: ignore[attr-defined]


ROUTES = sorted(set(routes()))


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_open_on_purpose_or_needs_a_permission(method: str, path: str) -> None:
    assert is_open(path) or permission_of(method, path) is not None


def test_what_is_open_is_what_is_written() -> None:
    assert OPEN_PATHS == OPEN
    assert OPEN_PREFIXES == ("/docs/", "/assets/")
    unfiled = {path for _, path in ROUTES if is_open(path) and not path.startswith(OPEN_PREFIXES)}
    assert unfiled <= OPEN
    assert len(ROUTES) > 40


async def test_without_a_key_every_other_route_is_401() -> None:
    async with keyed_client(make_bench()) as (client, _):
        for method, path in ROUTES:
            response = await client.request(method, path)
            assert (response.status_code == 401) != is_open(path), (method, path)
            if response.status_code == 401:
                assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", ["user", "auditor", "admin"])
async def test_a_role_is_refused_what_it_was_not_given(role: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        allowed = granted(keys.store.get(role).terms.role)
        for method, path in ROUTES:
            needed = permission_of(method, path)
            if is_open(path) or needed in allowed:
                continue
            response = await client.request(method, path, headers=keys.headers(role))
            assert response.status_code == 403, (method, path)


async def test_an_admin_is_refused_nothing_for_want_of_a_permission() -> None:
    async with keyed_client(make_bench()) as (client, keys):
        for method, path in ROUTES:
            if permission_of(method, path) is not Permission.MODELS:
                response = await client.request(method, path, headers=keys.headers("admin"))
                assert response.status_code not in (401, 403), (method, path)


@pytest.mark.parametrize("path", ["/nope", "/generate/../admin/keys", "/Generate", "/generatex", "/v1"])
async def test_a_path_that_is_no_route_tells_a_stranger_nothing(path: str) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=keys.headers("user"))).status_code in (403, 404)


async def test_the_first_key_is_not_made_over_the_network() -> None:
    async with client_of(make_bench()) as client:
        response = await client.post("/admin/keys", json={"name": "mine", "role": "admin"})
    assert response.status_code == 401
    assert "minivault keys create" in response.json()["error"]["message"]


async def test_the_description_asks_for_keys_and_tells_401() -> None:
    async with keyed_client(make_bench()) as (client, _):
        document = (await client.get("/openapi.json")).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "x-api-key"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("401" in operation["responses"]) != is_open(path), path
