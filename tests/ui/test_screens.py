"""Compare, Models, Live and Keys."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.server import Server, serving
from tests.ui.conftest import opened


def test_the_same_model_and_seed_give_equal_bytes(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("Prompt", exact=True).fill("Tell me a short story.")
    page.get_by_role("button", name="Run both").click()
    expect(page.locator(".verdict .badge")).to_have_text(re.compile("Equal bytes"))
    texts = page.locator(".output .md").all_inner_texts()
    assert texts[0] == texts[1] != ""


def test_other_settings_are_told_apart_and_shown_as_a_difference(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    side = page.get_by_label("Side B")
    side.get_by_text("Settings").click()
    side.get_by_label("Most tokens").fill("4")
    page.get_by_label("Prompt", exact=True).fill("Tell me a short story.")
    page.get_by_role("button", name="Run both").click()
    expect(page.locator(".verdict .badge")).to_have_text(re.compile(r"Differ from character \d+ on"))
    expect(page.locator(".diff del").first).to_be_visible()


def test_the_catalog_shows_what_is_there_and_what_can_be_done(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    card = page.get_by_label("guide", exact=True)
    expect(card).to_contain_text("in memory")
    expect(card).to_contain_text("5.8 M")
    expect(card.get_by_role("button", name="Remove")).to_have_count(0)
    expect(page.get_by_role("button", name="Pull")).to_be_visible()


def test_a_model_leaves_memory_and_comes_back(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    card = page.get_by_label("guide", exact=True)
    card.get_by_role("button", name="Unload").click()
    expect(card.locator(".badge").first).to_have_text("on disk")
    card.get_by_role("button", name="Load").click()
    expect(card.locator(".badge").first).to_have_text("in memory")


def damage(page: Page, name: str) -> None:
    """Have the server tell of ``name`` as damaged, beside what it tells."""

    def told(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"damaged": [{"name": name, "error": "config.json changed"}]})

    page.route("**/models", told)


def test_a_damaged_model_is_shown_with_what_is_wrong_and_can_be_removed(page: Page) -> None:
    damage(page, "mine")
    page.get_by_role("link", name="Models").click()
    card = page.get_by_label("mine", exact=True)
    expect(card.locator(".badge").first).to_have_text("failed")
    expect(card).to_contain_text("config.json changed")
    expect(card.get_by_role("button", name="Remove")).to_be_visible()


def test_a_model_in_memory_whose_files_changed_has_one_card_and_can_be_unloaded(page: Page) -> None:
    damage(page, "guide")
    page.get_by_role("link", name="Models").click()
    card = page.get_by_label("guide", exact=True)
    expect(card).to_contain_text("config.json changed")
    expect(card.locator(".badge").first).to_have_text("in memory")
    expect(card.get_by_role("button", name="Unload")).to_be_visible()


def test_a_pull_shows_its_progress_and_its_failure(page: Page) -> None:
    told = [
        {"status": "model.safetensors", "completed": 5_000_000, "total": 10_000_000},
        {"error": {"message": "Gone."}},
    ]
    body = "".join(json.dumps(line) + "\n" for line in told)
    page.route("**/models/pull", lambda route: route.fulfill(content_type="application/x-ndjson", body=body))
    page.get_by_role("link", name="Models").click()
    page.get_by_label("Pull a model").fill("org/name")
    page.get_by_role("button", name="Pull").click()
    expect(page.get_by_role("alert")).to_have_text("Gone.")


def test_live_plots_move_with_what_the_server_does(page: Page, server: Server) -> None:
    page.get_by_role("link", name="Live").click()
    figure = page.locator("figure").filter(has_text="Tokens a second")
    expect(figure.locator("path.line")).to_have_attribute("d", re.compile("^M"))
    before = page.locator(".fact").first.inner_text()
    httpx2.post(f"{server.url}/generate", json={"prompt": "Tell me a short story."}, timeout=240).raise_for_status()
    expect(page.locator(".fact").first).not_to_have_text(before)
    expect(figure.locator(".peak")).to_have_text(re.compile(r"[1-9][\d,.]* tok/s"))
    expect(figure.locator("svg")).to_have_attribute("aria-label", re.compile("Tokens a second: .* now"))


def test_prometheus_text_is_read_with_labels_that_hold_anything(page: Page) -> None:
    text = '# HELP x y\nx{a="1 } 2",b="q\\"q"} 3\nx{a="2"} 4.5e1\ny 7\n'
    sums = page.evaluate(
        """async (text) => {
            const { greatest, parse, total } = await import("/assets/prometheus.js");
            const read = parse(text);
            return [total(read, "x"), greatest(read, "x"), total(read, "y"), total(read, "z")];
        }""",
        text,
    )
    assert sums == [48, 45, 7, 0]


def test_keys_are_hidden_from_those_who_have_none(page: Page) -> None:
    expect(page.locator("#tabs a:visible")).to_have_text(["Chat", "Compare", "Vault", "Models", "Live"])


def test_a_server_without_keys_says_how_the_first_is_made(page: Page) -> None:
    page.goto("/#/keys")
    expect(page.locator("#main")).to_contain_text("This server has no keys yet")
    expect(page.locator("#main pre")).to_have_text("minivault keys create NAME --role admin")
    expect(page.get_by_role("button", name="New key")).to_be_hidden()
    expect(page.locator("dialog")).to_have_count(0)


KEY: dict[str, object] = {
    "id": "a1b2", "name": "laptop", "role": "user", "note": "", "requests": None, "tokens": "", "concurrent": 0,
    "models": [], "store": True, "created_at": "2026-11-21T12:00:00Z", "rotated_at": None, "expires_at": None,
    "revoked_at": None, "former_secret_until": None, "state": "active",
}  # fmt: skip


def playing_keys(listed: list[dict[str, object]]) -> Callable[[Route], None]:
    """The routes of keys, over a list."""
    return lambda route: play_keys(listed, route)


def play_keys(listed: list[dict[str, object]], route: Route) -> None:
    method, path = route.request.method, route.request.url.partition("/admin/keys")[2]
    if method == "POST" and not path:
        listed.append(dict(KEY) | {"id": "c3d4"} | json.loads(route.request.post_data or ""))
    elif method == "DELETE":
        listed[0] |= {"state": "revoked", "revoked_at": "2026-11-21T12:30:00Z"}
    secret = {"key": "mv_c3d4_secret"} if method == "POST" else {}
    route.fulfill(json={"keys": listed} if method == "GET" else listed[-1] | secret)


@pytest.fixture
def admin(chromium: Browser, server: Server) -> Iterator[Page]:
    """A page of an admin, on a server whose key routes are played."""
    for page in opened(chromium, server):
        page.route("**/admin/keys**", playing_keys([dict(KEY)]))
        page.evaluate("sessionStorage.setItem('minivault.api_key', 'mv_admin_secret')")
        page.goto("/#/keys")
        page.reload()
        yield page


def test_a_key_is_made_and_its_secret_shown_once(admin: Page) -> None:
    admin.get_by_role("button", name="New key").click()
    admin.get_by_role("textbox", name="Name").fill("phone")
    admin.get_by_label("Role").select_option("auditor")
    admin.get_by_role("button", name="Make the key").click()
    expect(admin.locator(".secret")).to_have_text("mv_c3d4_secret")
    admin.get_by_role("button", name="I have it").click()
    expect(admin.get_by_label("phone", exact=True)).to_contain_text("auditor")
    assert "mv_c3d4_secret" not in admin.content()


def test_a_key_is_bound_to_models_and_to_requests_at_one_time(admin: Page) -> None:
    admin.get_by_role("button", name="New key").click()
    admin.get_by_role("textbox", name="Name").fill("phone")
    admin.get_by_role("spinbutton", name="At one time").fill("2")
    admin.get_by_role("textbox", name="Models").fill("guide, my-llama,")
    with admin.expect_request(lambda request: request.method == "POST") as sent:
        admin.get_by_role("button", name="Make the key").click()
    terms = json.loads(sent.value.post_data or "")
    assert (terms["concurrent"], terms["models"]) == (2, ["guide", "my-llama"])
    admin.get_by_role("button", name="I have it").click()
    expect(admin.get_by_label("phone", exact=True)).to_contain_text("guide, my-llama")


def test_a_key_is_rotated_and_revoked_after_a_question(admin: Page) -> None:
    card = admin.get_by_label("laptop", exact=True)
    card.get_by_role("button", name="Rotate").click()
    admin.locator("dialog").get_by_role("button", name="Rotate").click()
    expect(admin.locator(".secret")).to_be_visible()
    admin.get_by_role("button", name="I have it").click()
    card.get_by_role("button", name="Revoke").click()
    admin.locator("dialog").get_by_role("button", name="Revoke").click()
    expect(card).to_contain_text("revoked")
    expect(card.get_by_role("button")).to_have_count(0)


def test_streams_of_both_sides_are_stopped_together(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/chat/completions", lambda route: held.append(route))
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("Prompt", exact=True).fill("Hello")
    page.get_by_role("button", name="Run both").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".output .figures")).to_have_text(["stopped", "stopped"])
    expect(page.locator(".verdict .badge")).to_have_count(0)


def test_a_real_admin_makes_a_key_that_opens_the_chat(chromium: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        made = made_key(tmp_path / "data")
        for page in opened(chromium, server):
            page.goto("/#/keys")
            page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", made)
            page.reload()
            # Until the tab is offered, the page may still ask what this key may, and another would be refused.
            expect(page.locator("#tabs [data-screen=keys]")).to_be_visible()
            page.get_by_role("button", name="New key").click()
            page.get_by_role("textbox", name="Name").fill("browser")
            page.get_by_role("button", name="Make the key").click()
            key = page.locator(".secret").inner_text()
            page.get_by_role("button", name="I have it").click()
            page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", key)
            page.goto("/#/chat/new")
            page.fill("#prompt", "What model are you?")
            page.keyboard.press("Enter")
            expect(page.locator(".answered .md")).to_contain_text("MiniVault")


def made_key(data_dir: Path, role: str = "admin") -> str:
    """A key, made on the server's machine."""
    name = "root" if role == "admin" else role
    command = [sys.executable, "-m", "minivault.cli.main", "keys", "create", name, "--role", role]
    done = subprocess.run([*command, "--data-dir", str(data_dir)], capture_output=True, text=True, check=True)
    found = re.search(r"mv_\w+", done.stdout)
    assert found
    return found[0]
