"""The key that the page itself uses: refused, rotated, revoked."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.server import serving
from tests.ui.conftest import opened
from tests.ui.test_screens import KEY, made_key, playing_keys


def test_the_page_takes_the_new_secret_of_its_own_key_and_says_whose_is_revoked(
    chromium: Browser, tmp_path: Path
) -> None:
    with serving(tmp_path / "data") as server:
        made = made_key(tmp_path / "data")
        for page in opened(chromium, server):
            page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", made)
            page.goto("/#/keys")
            page.reload()
            page.get_by_role("button", name="Rotate").click()
            expect(page.get_by_role("dialog")).to_contain_text("this page takes the new one")
            page.locator("dialog").get_by_role("button", name="Rotate").click()
            secret = page.locator(".secret").inner_text()
            assert secret != made
            expect(page.get_by_role("dialog")).to_contain_text("This tab uses it")
            expect(page.get_by_role("dialog")).to_have_count(1)
            assert page.evaluate("sessionStorage.getItem('minivault.api_key')") == secret
            page.get_by_role("button", name="I have it").click()
            expect(page.get_by_label("root", exact=True)).to_contain_text("Rotated")
            page.get_by_role("button", name="Revoke").click()
            expect(page.get_by_role("dialog")).to_contain_text("This is your own key")
            page.locator("dialog").get_by_role("button", name="Cancel").click()


def test_a_key_that_is_refused_is_told_as_an_error(page: Page) -> None:
    page.route("**/models", lambda route: route.fulfill(status=401, json={"error": {"message": "No.", "code": "x"}}))
    page.goto("/#/models")
    page.locator("dialog input").fill("mv_abc_123")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("does not accept this key")


def test_a_former_secret_that_is_still_taken_is_shown(page: Page) -> None:
    keys = [KEY | {"former_secret_until": "2999-01-01T00:00:00Z"}, KEY | {"id": "e5f6", "name": "phone"}]
    page.route("**/admin/keys**", playing_keys(keys))
    page.goto("/#/keys")
    expect(page.get_by_label("laptop", exact=True)).to_contain_text("Former secret")
    expect(page.get_by_label("laptop", exact=True)).to_contain_text("taken until")
    expect(page.get_by_label("phone", exact=True)).not_to_contain_text("Former secret")


def test_a_key_is_offered_what_it_may_do(chromium: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        keys = {role: made_key(tmp_path / "data", role) for role in ("admin", "user")}
        for role, key in keys.items():
            for page in opened(chromium, server):
                page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", key)
                page.goto("/#/models")
                page.reload()
                expect(page.get_by_role("article")).to_have_count(1)
                count = 1 if role == "admin" else 0
                expect(page.get_by_role("button", name="Unload")).to_have_count(count)
                expect(page.get_by_role("button", name="Pull")).to_have_count(count)
                for tab in ("Keys", "Live"):
                    expect(page.get_by_role("link", name=tab)).to_have_count(count)


def test_a_key_that_may_not_ask_is_told_so_before_anything_is_typed(chromium: Browser, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        keys = {role: made_key(tmp_path / "data", role) for role in ("auditor", "user")}
        for role, may in (("auditor", False), ("user", True)):
            for page in opened(chromium, server):
                page.evaluate("key => sessionStorage.setItem('minivault.api_key', key)", keys[role])
                page.reload()
                if may:
                    expect(page.get_by_role("link", name="Live")).to_have_count(0)
                else:
                    expect(page.locator(".dock")).to_contain_text("may not ask")
                expect(page.locator("#prompt")).to_be_visible(visible=may)
                expect(page.locator(".idea")).to_have_count(4 if may else 0)
                expect(page.get_by_role("link", name="Compare")).to_have_count(1 if may else 0)


def test_revoked_keys_stand_apart_and_behind_a_toggle(page: Page) -> None:
    gone = {"id": "c3d4", "name": "lost", "state": "revoked", "revoked_at": "2026-11-21T12:30:00Z"}
    page.route(
        "**/admin/keys**", playing_keys([KEY | gone, KEY | {"id": "e5f6", "name": "old", "state": "expired"}, KEY])
    )
    page.goto("/#/keys")
    expect(page.get_by_role("article")).to_have_count(2)
    assert page.get_by_role("article").evaluate_all("all => all.map(one => one.ariaLabel)") == ["laptop", "old"]
    page.get_by_text("Revoked: 1 key").click()
    expect(page.get_by_role("article", name="lost")).to_be_visible()


def test_a_record_that_is_not_there_leads_back_to_the_list(page: Page) -> None:
    with page.expect_response("**/vault/records/99999"):
        page.goto("/#/vault/99999")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("a.back").click()
    expect(page.get_by_role("heading", name="Vault")).to_be_visible()


def test_the_command_for_the_first_key_breaks_between_words_alone(phone: Page) -> None:
    phone.set_viewport_size({"width": 360, "height": 640})
    phone.goto("/#/keys")
    phone.locator(".command span").first.wait_for()
    lines = phone.locator(".command span").evaluate_all("all => all.map(one => one.getClientRects().length)")
    assert lines == [1] * 6
