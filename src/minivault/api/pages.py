"""What a browser gets: the front page and the API docs, all from this machine. No CDN, no inline script.

Every file is read once, at start, under a fixed name: no client string becomes a path. Knows nothing of the service.
"""

from __future__ import annotations

import html
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import swagger_ui_bundle  # type: ignore[import-untyped]  # has no types
from fastapi import APIRouter, Request, Response

from minivault import __version__
from minivault.api import negotiation
from minivault.api.native import json_response

RUNNING = "MiniVault is running"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HTML = "text/html"
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
"""Without anything that a shell or HTML would read."""

router = APIRouter(include_in_schema=False)


class Asset(NamedTuple):
    body: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """The files that may be asked for, by path."""
    ours: Traversable = files("minivault.api") / "ui"
    swagger = swagger_ui_bundle.swagger_ui_path
    return {
        "/docs": Asset((ours / "docs.html").read_bytes(), _HTML),
        "/docs/start.js": Asset((ours / "docs.js").read_bytes(), "text/javascript"),
        "/docs/swagger-ui.css": Asset((swagger / "swagger-ui.css").read_bytes(), "text/css"),
        "/docs/swagger-ui-bundle.js": Asset((swagger / "swagger-ui-bundle.js").read_bytes(), "text/javascript"),
        "/assets/style.css": Asset((ours / "style.css").read_bytes(), "text/css"),
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
        return _page(_front_page().replace("{host}", _shown_host(request)).encode(), _HTML)
    return Response(RUNNING, media_type="text/plain", headers={"vary": "accept"})


@router.get("/docs")
@router.get("/docs/start.js")
@router.get("/docs/swagger-ui.css")
@router.get("/docs/swagger-ui-bundle.js")
@router.get("/assets/style.css")
async def asset(request: Request) -> Response:
    return _page(*assets()[request.scope["route"].path])


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    return json_response(request.app.openapi())


def _page(body: bytes, media_type: str) -> Response:
    headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache", "vary": "accept"}
    return Response(body, media_type=media_type, headers=headers)
