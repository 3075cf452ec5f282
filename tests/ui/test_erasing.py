"""What is erased in the page is also gone from what this browser kept of it."""

from __future__ import annotations

import json

from playwright.sync_api import Page, Route, expect

from tests.ui.steps import answers, ask, body_of, ended

QUESTION = "Who lives in Zanzibar?"


def erase(page: Page) -> None:
    """Erase the record that is shown."""
    page.get_by_role("button", name="Erase content").click()
    expect(page.get_by_role("dialog")).to_contain_text("other browsers keep theirs")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("main .badge").filter(has_text="erased by record")).to_be_visible()


def kept_here(page: Page) -> str:
    found = page.evaluate("JSON.stringify(localStorage)")
    assert isinstance(found, str)
    return found


def test_an_erased_turn_goes_from_its_conversation(page: Page) -> None:
    ask(page, QUESTION)
    ask(page, "Hello")
    page.locator(".record-link").first.click()
    erase(page)
    assert "Zanzibar" not in kept_here(page)
    page.locator("#chats a.chat").click()
    expect(page.locator(".bubble")).to_have_text(["Hello"])
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "And now?")
    assert "Zanzibar" not in str(asked.value.post_data)


def test_a_conversation_goes_with_its_only_turn_also_where_another_tab_shows_it(page: Page) -> None:
    ask(page, QUESTION)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".bubble")).to_have_text([QUESTION])
    page.locator(".record-link").click()
    erase(page)
    expect(page.locator("#chats li")).to_have_count(0)
    # A tab in the background is not always told of a change; it looks when it comes to the front.
    other.evaluate("dispatchEvent(new Event('focus'))")
    expect(other.locator(".welcome")).to_be_visible()
    assert "Zanzibar" not in kept_here(page)


def test_an_answer_under_way_in_another_tab_does_not_bring_the_turn_back(page: Page) -> None:
    ask(page, QUESTION)
    link = page.locator(".record-link").get_attribute("href")
    held: list[Route] = []
    page.route("**/v1/chat/completions", lambda route: held.append(route))
    with page.expect_request("**/v1/chat/completions"):
        page.fill("#prompt", "Hello")
        page.keyboard.press("Enter")
    other = page.context.new_page()
    other.goto(f"/{link}")
    erase(other)
    held[0].fulfill(content_type="text/event-stream", body=body_of([{"content": "Welcome."}]))
    expect(ended(page)).to_contain_text("Welcome.")
    expect(page.locator(".bubble")).to_have_text(["Hello"])
    assert "Zanzibar" not in kept_here(page)


def test_answers_taken_from_its_record_go_too_and_nothing_of_a_former_vault(page: Page) -> None:
    ask(page, QUESTION)
    link = page.locator(".record-link").get_attribute("href")
    chat = next(json.loads(value) for value in json.loads(kept_here(page)).values() if "turns" in value)
    for question, answer in ((f"{QUESTION} Again.", chat["turns"][0]["answers"][0]["text"]), ("Hello", "Other words.")):
        page.goto("/#/chat/new")
        answers(page, {"content": answer})
        ask(page, question)

    def erased_with_record_0(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"copies": [0]})

    page.route("**/vault/records/*/content", erased_with_record_0)
    page.goto(f"/{link}")
    erase(page)
    assert "Zanzibar" not in kept_here(page)
    assert "Other words." in kept_here(page)


def test_what_was_compared_goes_too(page: Page) -> None:
    page.goto("/#/compare")
    page.get_by_label("Prompt", exact=True).fill(QUESTION)
    page.get_by_role("button", name="Run both").click()
    expect(page.locator(".verdict .badge")).to_be_visible()
    page.locator(".record-link").first.click()
    erase(page)
    page.get_by_role("link", name="Compare").click()
    expect(page.locator(".output .record-link")).to_have_count(1)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("")


def test_an_erased_record_is_not_offered_to_be_run_again(page: Page) -> None:
    ask(page, QUESTION)
    page.locator(".record-link").click()
    expect(page.get_by_role("button", name="Run it again")).to_be_visible()
    erase(page)
    expect(page.get_by_label("Replay")).to_contain_text("cannot be run again")
    expect(page.get_by_role("button", name="Run it again")).to_have_count(0)
    assert json.loads(kept_here(page))["minivault.chats"] == "[]"
