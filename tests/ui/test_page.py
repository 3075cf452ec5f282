"""The page as a whole: light, quick, for keyboards and phones, readable in both themes, and of this machine alone."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.server import Server
from tests.ui.conftest import opened
from tests.ui.steps import ask, ended, says

SCREENS = ("chat/new", "compare", "vault", "models", "live")
MOST_BYTES = 150_000
MOST_PAINT_MS = 1000


def test_all_files_together_weigh_little() -> None:
    ui = files("minivault.api") / "ui"
    ours = [file for file in ui.iterdir() if not file.name.startswith("docs.")]
    assert sum(len(file.read_bytes()) for file in ours if file.is_file()) < MOST_BYTES


def test_something_is_seen_soon(page: Page) -> None:
    page.goto("about:blank")
    page.goto("/")
    page.locator(".welcome").wait_for()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < MOST_PAINT_MS


def test_files_have_their_types_and_are_asked_for_anew_but_sent_once(server: Server) -> None:
    html = {"accept": "text/html"}
    page = httpx2.get(server.url, headers=html)
    for path in ["/", *re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)]:
        got = httpx2.get(server.url + path, headers=html)
        headers = got.headers
        assert (got.status_code, headers["cache-control"], headers["x-content-type-options"]) == (
            200,
            "no-cache",
            "nosniff",
        )
        assert "require-trusted-types-for 'script'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        known = httpx2.get(server.url + path, headers=html | {"if-none-match": headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        head = httpx2.head(server.url + path, headers=html)
        assert (head.status_code, head.headers["etag"], head.content) == (200, headers["etag"], b"")
    assert httpx2.get(f"{server.url}/assets/app.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["/assets/pages.py", "/assets/..%2fpages.py", "/assets/nothing.js", "/assets/index.html"]
)
def test_no_other_file_is_served(server: Server, path: str) -> None:
    assert httpx2.get(server.url + path).status_code == 404


def test_programs_are_told_in_one_line_that_it_runs(server: Server) -> None:
    assert httpx2.get(server.url).text == "MiniVault is running"


@pytest.mark.parametrize("screen", SCREENS)
def test_a_phone_never_scrolls_sideways(phone: Page, screen: str) -> None:
    phone.goto(f"/#/{screen}")
    phone.locator("main h1").wait_for()
    assert phone.evaluate("[document.documentElement.scrollWidth, document.querySelector('main').scrollWidth]") == [
        375,
        375,
    ]


def test_a_phone_takes_wide_code_and_tables_without_scrolling_sideways(phone: Page) -> None:
    says(phone, "```\n" + "x" * 500 + "\n```\n\n| " + "wide | " * 40 + "\n|" + "---|" * 40 + "\n\n" + "y" * 400)
    assert phone.evaluate("document.querySelector('main').scrollWidth") == 375


def test_a_phone_has_conversations_key_and_theme_in_the_menu(phone: Page) -> None:
    ask(phone, "Hello")
    phone.get_by_role("button", name="Conversations and settings").tap()
    dialog = phone.get_by_role("dialog")
    expect(dialog.locator("a.chat")).to_have_text(re.compile("Hello"))
    expect(dialog.get_by_role("button", name="API key")).to_be_visible()
    dialog.get_by_role("link", name="New chat").tap()
    expect(phone.locator(".welcome")).to_be_visible()


def pressed_until(page: Page, key: str, selector: str) -> None:
    """Press a key until what fits ``selector`` has the focus."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{key} never leads to {selector}")


def test_the_keyboard_alone_asks_and_reads_the_record(page: Page) -> None:
    page.goto("/#/models")
    page.reload()
    page.locator("article").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    pressed_until(page, "Shift+Tab", "#tabs [data-screen=chat]")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("What model are you?")
    page.keyboard.press("Enter")
    ended(page)  # which draws the answer anew, and so takes the focus from what is in it
    pressed_until(page, "Shift+Tab", ".record-link")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(re.compile("Record"))


def test_a_dialog_takes_the_focus_and_gives_it_back(page: Page) -> None:
    button = page.get_by_role("button", name="Settings of this chat")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Settings of this chat")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()


def test_going_back_closes_the_dialog_above(page: Page) -> None:
    page.get_by_role("link", name="Vault", exact=True).click()
    page.get_by_role("button", name="Export").click()
    expect(page.get_by_role("dialog", name="Export")).to_be_visible()
    page.go_back()
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_all_times_are_of_24_hours(page: Page) -> None:
    told = page.evaluate(
        """async () => {
            const { time, when } = await import("/assets/format.js");
            return [time("2026-11-21T19:04:05"), when(new Date(new Date().setHours(19, 4)).toISOString())];
        }"""
    )
    assert told == ["Nov 21, 2026, 19:04:05", "19:04"]


NAMELESS = """() => [...document.querySelectorAll("a, button, input, select, textarea, img, svg[role]")]
    .filter((one) => one.getClientRects().length)
    .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.hasAttribute("alt")))
    .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("screen", SCREENS)
def test_everything_has_a_name_and_each_screen_one_heading(page: Page, screen: str) -> None:
    page.goto(f"/#/{screen}")
    page.locator("main h1").wait_for()
    assert page.evaluate(NAMELESS) == []
    expect(page.locator("h1")).to_have_count(1)
    assert page.evaluate("[...document.querySelectorAll('main, nav, footer')].map((one) => one.tagName)") == [
        "NAV",
        "FOOTER",
        "MAIN",
    ]
    expect(page.locator("#tabs [aria-current=page]")).to_have_count(1)


def test_what_happens_is_said_aloud(page: Page) -> None:
    ask(page, "Hello")
    expect(page.locator("#announcer")).to_have_text(re.compile("Answer finished: [1-9]"))


CONTRAST = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (node) => {
        for (let one = node; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return parse(getComputedStyle(document.body).backgroundColor);
    };
    const bad = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
        const style = getComputedStyle(node);
        if (!own || !node.getClientRects().length || style.visibility === "hidden") continue;
        const [one, other] = [light(parse(style.color)), light(ground(node))].sort((a, b) => b - a);
        if ((one + 0.05) / (other + 0.05) < 4.5) bad.push([node.className, node.textContent.slice(0, 30)]);
    }
    return bad;
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_stands_out_in_both_themes(chromium: Browser, server: Server, dark: bool) -> None:
    for page in opened(chromium, server, dark=dark):
        ask(page, "How do I change the port?")
        found: dict[str, Any] = {}
        for screen in ("chat", *SCREENS[1:]):
            if screen != "chat":
                page.goto(f"/#/{screen}")
            page.locator("main h1").wait_for()
            found[screen] = page.evaluate(CONTRAST)
        assert {screen: bad for screen, bad in found.items() if bad} == {}


def test_a_chosen_theme_stays(page: Page) -> None:
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
