"""What a browser gets: the web page and the API docs, all from this machine. No CDN, no inline script, no build step.

Every file is read once, at start, under a fixed name: no client string becomes a path. Knows nothing of the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import swagger_ui_bundle  # type: ignore[import-untyped]  # has no types
from fastapi import APIRouter, FastAPI, Request, Response

from minivault import __version__
from minivault.api import negotiation
from minivault.api.problems import Problem

RUNNING = "MiniVault is running"
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_POLICY = DOCS_POLICY + "; require-trusted-types-for 'script'; trusted-types 'none'"
"""Our own page never makes nodes from strings, and so the browser may refuse to. Swagger UI does."""
_HTML = "text/html"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
"""Without anything that a shell or HTML would read."""

router = APIRouter(include_in_schema=False)


class Asset(NamedTuple):
    body: bytes
    media_type: str
    policy: str
    tag: str


def _asset(body: bytes, media_type: str, policy: str = PAGE_POLICY) -> Asset:
    return Asset(body, media_type, policy, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@cache
def assets() -> dict[str, Asset]:
    """The files that may be asked for, by path."""
    ours: Traversable = files("minivault.api") / "ui"
    swagger = swagger_ui_bundle.swagger_ui_path
    scripts = {
        f"/assets/{file.name}": _asset(file.read_bytes(), _TYPES[suffix])
        for file in ours.iterdir()
        if (suffix := file.name[file.name.rfind(".") :]) in _TYPES
    }
    return scripts | {
        "/favicon.ico": scripts["/assets/favicon.svg"],  # what browsers ask for where a page names none
        "/docs": _asset((ours / "docs.html").read_bytes(), _HTML, DOCS_POLICY),
        "/docs/start.js": _asset((ours / "docs.js").read_bytes(), _TYPES[".js"], DOCS_POLICY),
        "/docs/swagger-ui.css": _asset((swagger / "swagger-ui.css").read_bytes(), _TYPES[".css"], DOCS_POLICY),
        "/docs/swagger-ui-bundle.js": _asset(
            (swagger / "swagger-ui-bundle.js").read_bytes(), _TYPES[".js"], DOCS_POLICY
        ),
    }


@cache
def _front_page() -> str:
    page = (files("minivault.api") / "ui" / "index.html").read_text(encoding="utf-8")
    return page.replace("{version}", __version__)


def _shown_host(request: Request) -> str:
    """The name that this server was asked by, for a command to copy. The door has checked it, unless told not to."""
    host = request.headers.get("host", "")
    return html.escape(host if _PLAIN_HOST.fullmatch(host) else "localhost:8000")


@router.get("/")
async def front(request: Request) -> Response:
    """The page for a browser, one line for anything else."""
    wants_page = negotiation.preferred(request.headers.get("accept"), ("text/plain", _HTML)) == _HTML
    if wants_page:
        return _page(request, _asset(_front_page().replace("{host}", _shown_host(request)).encode(), _HTML))
    return Response(RUNNING, media_type="text/plain", headers={"vary": "accept"})


@router.get("/docs")
@router.get("/docs/start.js")
@router.get("/docs/swagger-ui.css")
@router.get("/docs/swagger-ui-bundle.js")
@router.get("/assets/{name}")
@router.get("/favicon.ico")
async def asset(request: Request) -> Response:
    found = assets().get(request.scope["path"])
    if found is None:
        raise Problem(404, "There is no such file on this server.", code="not_found")
    return _page(request, found)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    state = request.app.state
    if not hasattr(state, "openapi"):
        # Once, and off the event loop: it takes half a second, and every visit of the page asks for it.
        state.openapi = asyncio.ensure_future(asyncio.to_thread(_document_of, request.app))
    return _page(request, await asyncio.shield(state.openapi))


def _document_of(app: FastAPI) -> Asset:
    return _asset(json.dumps(app.openapi()).encode(), "application/json")


def _page(request: Request, asset: Asset) -> Response:
    """The file, or 304 where the browser has it already. It asks each time, so a new version shows at once."""
    headers = {
        "content-security-policy": asset.policy,
        "cache-control": "no-cache",
        "vary": "accept",
        "etag": asset.tag,
    }
    known = request.headers.get("if-none-match", "")
    if asset.tag in (part.strip().removeprefix("W/") for part in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
