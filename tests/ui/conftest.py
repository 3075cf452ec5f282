"""The page in a real headless Chromium, on a real server with the embedded model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.server import Server, serving

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1280, 800
PATIENCE_MS = 120_000
"""The model answers at the pace that the machine leaves it; on a busy one a story has taken 40 seconds."""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests, whose heads are signed soon after a record."""
    with serving(tmp_path_factory.mktemp("ui") / "data", "--head-interval", "1") as running:
        yield running


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One for these tests alone: while it is open, its event loop is this thread's, and no other could run."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


class Watch:
    """What a page said and asked for, besides what a test looks at."""

    def __init__(self, page: Page, origin: str) -> None:
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("request", lambda asked: self._asked(asked.url, origin))

    def _said(self, kind: str, text: str) -> None:
        # The browser itself notes each refusal; a test that has one made on purpose expects it.
        if kind in ("error", "warning") and not re.search(r"status of (400|401|404|422)", text):
            self.faults.append(text)

    def _asked(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "blob:", "data:")):
            self.elsewhere.append(url)


def opened(browser: Browser, server: Server, *, phone: bool = False, dark: bool = False) -> Iterator[Page]:
    """A page of its own; at its end nothing may have been asked of another machine, and no error shown."""
    viewport = {"width": 375, "height": 740} if phone else {"width": WIDTH, "height": HEIGHT}
    context = browser.new_context(
        viewport=viewport,  # type: ignore[arg-type]  # a TypedDict that is not exported
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        base_url=server.url,
        permissions=["clipboard-read", "clipboard-write"],
        accept_downloads=True,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    watch = Watch(page, server.url)
    page.goto("/")
    yield page
    context.close()
    assert watch.elsewhere == []
    assert watch.faults == []


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Page]:
    yield from opened(chromium, server)


@pytest.fixture
def phone(chromium: Browser, server: Server) -> Iterator[Page]:
    yield from opened(chromium, server, phone=True)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path
