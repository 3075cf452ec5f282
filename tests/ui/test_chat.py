"""Chat: streams, stops, edits, retries, and keeps what was said; each answer leads to its record."""

from __future__ import annotations

import json

from playwright.sync_api import Page, Route, expect

from tests.e2e.server import Server
from tests.ui.steps import answers, ask, ended, in_slow_motion


def test_an_answer_streams_and_tells_its_figures_and_its_record(page: Page) -> None:
    answer = ask(page, "What model are you?")
    expect(answer.locator(".md")).to_contain_text("MiniVault")
    expect(answer.locator(".figures")).to_contain_text("tokens")
    expect(answer.locator(".figures")).to_contain_text("first in")
    answer.locator(".record-link").click()
    expect(page.locator("h1")).to_contain_text("Record")
    expect(page.get_by_label("What was said")).to_contain_text("What model are you?")


def endless(route: Route) -> None:
    """Have the model go on after its end, to the end of its context."""
    body = json.loads(route.request.post_data or "") | {"ignore_eos": True}
    route.continue_(post_data=json.dumps(body))


def test_a_stopped_answer_is_kept_and_recorded_as_cancelled(page: Page, server: Server) -> None:
    page.route("**/v1/chat/completions", endless)
    page.fill("#prompt", "Tell me a short story.")
    with in_slow_motion(server):
        page.keyboard.press("Enter")
        page.locator(".running .md p").first.wait_for()
        page.keyboard.press("Escape")
        answer = ended(page)
    expect(answer.locator(".figures")).to_contain_text("stopped")
    answer.locator(".record-link").click()
    expect(page.locator("main .badge").first).to_have_text("cancelled")


def test_retry_gives_another_answer_and_keeps_the_first(page: Page) -> None:
    ask(page, "Tell me a short story.")
    page.get_by_role("button", name="Retry").click()
    answer = ended(page)
    expect(answer.locator(".versions")).to_contain_text("2 of 2")
    answer.get_by_role("button", name="Earlier answer").click()
    expect(page.locator(".versions")).to_contain_text("1 of 2")


def test_an_edited_message_is_asked_again_and_what_followed_goes(page: Page) -> None:
    ask(page, "Hello")
    ask(page, "Tell me a short story.")
    page.locator(".asked").first.hover()
    page.get_by_role("button", name="Edit message").first.click()
    page.get_by_role("textbox", name="Edit message").fill("What model are you?")
    page.get_by_role("button", name="Ask again").click()
    ended(page)
    expect(page.locator(".bubble")).to_have_text(["What model are you?"])


def test_the_settings_are_what_is_asked_for(page: Page) -> None:
    page.get_by_role("button", name="Settings of this chat").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Top p").fill("0.8")
    page.get_by_label("Most tokens").fill("5")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Done").click()
    with page.expect_request("**/v1/chat/completions") as asked:
        answer = ask(page, "Hello")
    body = json.loads(asked.value.post_data or "")
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed", "model")} == {
        "temperature": 0.5, "top_p": 0.8, "max_tokens": 5, "seed": 7, "model": "guide",
    }  # fmt: skip
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    expect(answer.locator(".figures")).to_contain_text("cut at the most tokens")


def test_a_conversation_outlives_the_page_and_goes_on_with_its_turns(page: Page) -> None:
    ask(page, "What model are you?")
    page.reload()
    expect(page.locator(".bubble")).to_have_text(["What model are you?"])
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "Hello")
    roles = [message["role"] for message in json.loads(asked.value.post_data or "")["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_conversations_are_renamed_and_deleted(page: Page) -> None:
    ask(page, "Hello")
    page.locator("#chats li").hover()
    page.get_by_role("button", name="Rename Hello").click()
    page.get_by_role("textbox", name="Name").fill("Greetings")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.locator("main h1")).to_have_text("Greetings")
    page.locator("#chats li").hover()
    page.get_by_role("button", name="Delete Greetings").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#chats li")).to_have_count(0)
    expect(page.locator(".welcome")).to_be_visible()


def test_an_answer_goes_on_while_another_screen_is_shown(page: Page) -> None:
    page.fill("#prompt", "Tell me a short story.")
    page.keyboard.press("Enter")
    page.locator(".answered").wait_for()
    page.get_by_role("link", name="Models").click()
    expect(page.locator("h1")).to_have_text("Models")
    page.locator("#chats a.chat").first.click()
    expect(ended(page).locator(".figures")).to_contain_text("tokens")


def test_reasoning_is_folded_and_apart_from_the_answer(page: Page) -> None:
    answers(page, {"reasoning_content": "Let me see."}, {"content": "Four."})
    answer = ask(page, "What is 2 plus 2?")
    expect(answer.locator(".md")).to_have_text("Four.")
    expect(answer.locator(".thoughts")).not_to_be_visible()
    answer.locator("summary").click()
    expect(answer.locator(".thoughts")).to_have_text("Let me see.")


def test_a_stream_that_breaks_is_told_and_never_taken_for_whole(page: Page) -> None:
    cut = 'data: {"choices": [{"index": 0, "delta": {"content": "Half"}, "finish_reason": null}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=cut))
    answer = ask(page, "Hello")
    expect(answer.locator(".md")).to_have_text("Half")
    expect(answer.get_by_role("alert")).to_contain_text("broke")


def test_what_was_refused_is_told_in_whole_sentences(page: Page) -> None:
    refusal = {"error": {"message": "Is it running?", "code": "no_answer"}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=422, json=refusal))
    alert = ask(page, "Hello").get_by_role("alert")
    expect(alert).to_have_text("Is it running? This message is not sent again with the next one.")


def test_a_page_that_goes_away_leaves_its_answer_unfinished(page: Page, server: Server) -> None:
    page.route("**/v1/chat/completions", endless)
    page.fill("#prompt", "Tell me a short story.")
    with in_slow_motion(server):
        page.keyboard.press("Enter")
        page.locator(".running .md p").first.wait_for()
        page.reload()
    answer = page.locator(".answered").last
    expect(answer.locator(".figures")).to_contain_text("left unfinished")
    expect(answer.get_by_role("alert")).to_have_count(0)


def test_a_key_is_asked_for_kept_in_the_tab_and_sent(page: Page) -> None:
    seen: list[str | None] = []

    def guard(route: Route) -> None:
        seen.append(route.request.headers.get("authorization"))
        if seen[-1] is None:
            route.fulfill(status=401, json={"error": {"message": "An API key is needed.", "code": "missing_key"}})
        else:
            route.continue_(headers={k: v for k, v in route.request.headers.items() if k != "authorization"})

    page.route("**/models", guard)
    page.get_by_role("link", name="Models").click()
    page.locator("dialog input").fill("mv_abc_123")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("article")).to_contain_text("guide")
    assert seen[:2] == [None, "Bearer mv_abc_123"]
    assert page.evaluate("[sessionStorage.length, JSON.stringify(localStorage).includes('mv_abc')]") == [1, False]


def test_where_the_context_ended_a_new_chat_is_offered_and_what_was_refused_is_not_sent_again(page: Page) -> None:
    ask(page, "Hello")
    refused = "word " * 1500
    answer = ask(page, refused)
    expect(answer.get_by_role("alert")).to_contain_text("not sent again")
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "What model are you?")
    sent = [message["content"] for message in json.loads(asked.value.post_data or "")["messages"]]
    assert (sent[0], sent[-1], len(sent)) == ("Hello", "What model are you?", 3)
    page.get_by_role("alert").get_by_role("button", name="Ask it in a new chat").click()
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value(refused.strip())


def test_a_message_that_is_too_long_by_itself_is_not_sent_to_a_new_chat(page: Page) -> None:
    alert = ask(page, "word " * 1500).get_by_role("alert")
    expect(alert).to_contain_text("there is no room for an answer")
    expect(alert.get_by_role("button")).to_have_count(0)


def test_an_answer_that_the_context_cut_says_so(page: Page) -> None:
    end = {"choices": [{"index": 0, "delta": {"content": "And so"}, "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 967, "completion_tokens": 57, "total_tokens": 1024}}
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in (end, usage)) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    expect(page.locator("select.model")).to_have_value("guide")
    expect(ask(page, "Hello").locator(".figures")).to_contain_text("the model's context ended")
