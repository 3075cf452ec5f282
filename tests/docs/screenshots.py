"""Takes the pictures of docs/images anew, from a real server in a headless Chromium: python -m tests.docs.screenshots

Two servers of its own, one of them with keys; half of the pictures are dark. Look at each before it is committed.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx2
from playwright.sync_api import Browser, Page, sync_playwright

from tests.docs.reading import ROOT
from tests.e2e.server import MINIVAULT, Server, serving
from tests.ui.conftest import FLAGS
from tests.ui.steps import ask

IMAGES = ROOT / "docs" / "images"
WIDE, TALL = {"width": 1280, "height": 820}, {"width": 400, "height": 789}
QUESTIONS = ("Where are my prompts stored?", "Tell me a short story.", "How do I change the port?")
KEYS = (
    "audit --role auditor",
    "notebook --requests 60/minute",
    "jobs --tokens 100000/day --concurrent 4 --model guide",
)
LOAD_SECONDS, STREAMS = 50, 12


@contextmanager
def opened(browser: Browser, server: Server, *, dark: bool = False, phone: bool = False) -> Iterator[Page]:
    context = browser.new_context(
        viewport=TALL if phone else WIDE,  # type: ignore[arg-type]  # a TypedDict that is not exported
        has_touch=phone,
        color_scheme="dark" if dark else "light",
        base_url=server.url,
        locale="en-GB",
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto("/")
    yield page
    context.close()


def taken(page: Page) -> bytes:
    """What is to be seen, as WebP, once nothing moves."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(600)
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 78})
    return base64.b64decode(shot["data"])


def keep(name: str, picture: bytes) -> None:
    (IMAGES / f"web-{name}.webp").write_bytes(picture)
    print(f"web-{name}.webp: {len(picture) / 1000:.0f} kB")


def chats(page: Page) -> None:
    for question in QUESTIONS:
        ask(page, question)


def to_record(page: Page) -> None:
    """A record that is proven and replayed."""
    page.locator(".record-link").nth(1).click()
    page.get_by_text("proven", exact=True).wait_for()
    page.get_by_role("button", name="Run it again").or_(page.get_by_role("button", name="Replay")).click()
    page.get_by_text("MATCH", exact=True).wait_for()


def compare(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    side = page.get_by_label("Side B")
    side.get_by_text("Settings").click()
    side.get_by_label("Seed").fill("8")
    side.get_by_text("Settings").click()
    page.get_by_label("Prompt", exact=True).fill("Tell me a short story.")
    page.get_by_role("button", name="Run both").click()
    page.locator(".verdict .badge").wait_for()


def to_vault(page: Page) -> None:
    page.get_by_role("link", name="Vault", exact=True).click()
    page.locator(".call").first.wait_for()
    page.get_by_text("Filters").click()


def wide(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.locator("#prompt").wait_for()
        keep("welcome", taken(page))
        chats(page)
        keep("chat", taken(page))
        to_vault(page)
        keep("vault", taken(page))
        page.get_by_role("link", name="Models").click()
        page.get_by_label("guide", exact=True).wait_for()
        keep("models", taken(page))
    with opened(browser, server, dark=True) as page:
        chats(page)
        to_record(page)
        keep("record", taken(page))
        compare(page)
        keep("compare", taken(page))
        page.get_by_role("link", name="Live").click()
        with loaded(server):
            page.wait_for_timeout(LOAD_SECONDS * 1000)
            keep("live", taken(page))


@contextmanager
def loaded(server: Server) -> Iterator[None]:
    """Several streams at a time, each begun anew when it ends."""
    enough = Event()

    def go_on() -> None:
        while not enough.is_set():
            httpx2.post(f"{server.url}/generate", json={"prompt": QUESTIONS[1]}, timeout=120).raise_for_status()

    with ThreadPoolExecutor(STREAMS) as threads:
        for _ in range(STREAMS):
            threads.submit(go_on)
        yield
        enough.set()


def on_a_phone(browser: Browser, server: Server) -> None:
    """Three screens side by side."""
    with opened(browser, server, phone=True) as page:
        chats(page)
        shots = [taken(page)]
        page.get_by_role("link", name="Vault", exact=True).click()
        page.locator(".call").first.wait_for()
        shots.append(taken(page))
        page.locator(".call").first.click()
        page.get_by_text("proven", exact=True).wait_for()
        page.evaluate("scrollTo(0, 0)")
        shots.append(taken(page))
    sources = [f"data:image/webp;base64,{base64.b64encode(shot).decode()}" for shot in shots]
    page = browser.new_page(viewport={"width": 3 * TALL["width"] + 28, "height": TALL["height"]})
    row = "".join(f'<img src="{source}" style="width:{TALL["width"]}px">' for source in sources)
    page.set_content(f'<body style="margin:0;display:flex;gap:14px;background:#d8d5cc">{row}')
    keep("phone", taken(page))


def keys(browser: Browser, server: Server, data_dir: Path) -> None:
    made = [create(data_dir, of) for of in ("root --role admin", *KEYS)]
    with opened(browser, server) as page:
        page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", made[0])
        page.goto("/#/keys")
        page.reload()
        page.get_by_label("root", exact=True).wait_for()
        keep("keys", taken(page))


def create(data_dir: Path, words: str) -> str:
    command = [*MINIVAULT, "keys", "create", *words.split(), "--data-dir", str(data_dir)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"mv_\w+", told)
    return found[0] if found else sys.exit(told)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="minivault-pictures-"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        with serving(folder / "open", "--head-interval", "1") as server:
            wide(browser, server)
            on_a_phone(browser, server)
        with serving(folder / "keyed") as server:
            keys(browser, server, folder / "keyed")
        browser.close()


if __name__ == "__main__":
    main()
