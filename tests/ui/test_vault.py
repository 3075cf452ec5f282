"""The vault's screens: found as you type, proven in the browser, replayed, erased, exported."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.server import Server

VECTORS = Path(__file__).parent.parent / "vault" / "vectors" / "merkle.json"


def recorded(server: Server, prompt: str, **more: Any) -> dict[str, Any]:
    answer = httpx2.post(f"{server.url}/generate", json={"prompt": prompt, "max_tokens": 12, **more}, timeout=240)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def test_calls_are_found_as_you_type_and_by_filters(page: Page, server: Server) -> None:
    recorded(server, "What about xylophone please?")
    recorded(server, "What about the quokka please?", max_tokens=1)
    page.get_by_role("link", name="Vault", exact=True).click()
    page.get_by_label("Search prompts and answers").type("xylophone")
    expect(page.locator(".call-prompt")).to_have_text(["What about xylophone please?"])
    page.get_by_label("Search prompts and answers").fill("about please")
    expect(page.locator(".call-prompt")).to_have_count(2)
    page.get_by_text("Filters").click()
    page.get_by_label("How it ended").select_option("length")
    page.get_by_label("Surface").select_option("native")
    expect(page.locator(".call-prompt").first).to_have_text("What about the quokka please?")
    page.get_by_label("Surface").select_option("anthropic")
    expect(page.get_by_text("No call fits.")).to_be_visible()


def test_a_query_without_a_word_waits_for_one(page: Page, server: Server) -> None:
    recorded(server, "What about the narwhal please?")
    page.goto("/#/vault")
    search = page.get_by_label("Search prompts and answers")
    search.fill('"')
    expect(page.get_by_role("status").filter(has_text="Type a word")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    search.type("the narwhal")
    expect(page.locator(".call-prompt")).to_have_text(["What about the narwhal please?"])
    expect(page.get_by_text("1 call shown")).to_be_visible()


def test_no_count_is_left_above_an_error(page: Page, server: Server) -> None:
    recorded(server, "Hello")
    page.goto("/#/vault")
    expect(page.get_by_text("shown", exact=False).first).to_be_visible()
    answer = {"error": {"message": "Not so.", "code": "x"}}
    page.route("**/vault/records?*query=*", lambda route: route.fulfill(status=400, json=answer))
    page.get_by_label("Search prompts and answers").fill("hello")
    expect(page.get_by_role("alert")).to_contain_text("Not so.")
    expect(page.get_by_text("shown", exact=False)).to_have_count(0)
    expect(page.get_by_role("button", name="Older calls")).to_be_hidden()


def test_imported_calls_can_be_filtered_by(page: Page) -> None:
    page.goto("/#/vault")
    page.get_by_text("Filters").click()
    page.get_by_label("How it ended").select_option("imported")
    expect(page.get_by_text("No call fits.")).to_be_visible()


def test_a_record_that_is_open_is_shown_anew_once_it_has_ended(page: Page, server: Server) -> None:
    call = recorded(server, "What about an axolotl please?")
    open_yet = [True]

    def answer(route: Route) -> None:
        whole = route.fetch()
        missing = {"finish_reason": None, "response": None} if open_yet else {}
        route.fulfill(response=whole, json=whole.json() | missing)

    page.route(f"**/vault/records/{call['id']}", answer)
    page.goto(f"/#/vault/{call['id']}")
    expect(page.locator("main .badge").first).to_have_text("open")
    expect(page.get_by_label("What was said")).to_contain_text("Not ended yet.")
    open_yet.clear()
    expect(page.locator("main .badge").first).to_have_text(call["finish_reason"])
    expect(page.get_by_label("What was said")).not_to_contain_text("Not ended yet.")


def test_every_surface_can_be_filtered_by(page: Page, server: Server) -> None:
    asked = {"model": "guide", "input": "What about a wallaby please?", "max_output_tokens": 16}
    httpx2.post(f"{server.url}/v1/responses", json=asked, timeout=240).raise_for_status()
    page.goto("/#/vault")
    page.get_by_label("Search prompts and answers").fill("wallaby")
    page.get_by_text("Filters").click()
    page.get_by_label("Surface").select_option("import")
    expect(page.get_by_text("No call fits.")).to_be_visible()
    page.get_by_label("Surface").select_option("responses")
    expect(page.locator(".call-prompt")).to_have_text(["What about a wallaby please?"])


def test_older_calls_come_page_by_page(page: Page, server: Server) -> None:
    for number in range(32):
        recorded(server, f"pagination number {number}", max_tokens=1)
    recorded(server, "the newest of all", max_tokens=1)
    page.goto("/#/vault")
    expect(page.locator(".call").first).to_contain_text("the newest of all")
    page.get_by_label("Search prompts and answers").fill("pagination")
    expect(page.locator(".call").first).to_contain_text("pagination number 31")
    expect(page.locator(".call")).to_have_count(30)
    page.get_by_role("button", name="Older calls").click()
    expect(page.locator(".call")).to_have_count(32)
    expect(page.get_by_role("button", name="Older calls")).not_to_be_visible()


def test_a_record_shows_what_it_pins_and_is_proven_in_the_browser(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?", seed=41)
    page.goto(f"/#/vault/{answer['record']['index']}")
    proof = page.get_by_label("Proof")
    expect(proof.locator(".badge").first).to_have_text("proven")
    expect(proof).to_contain_text("Ed25519 signature is sound")
    expect(proof).to_contain_text("Shown as the records commit to: the prompt, the answer, the tokens of the prompt")
    expect(page.locator("main")).to_contain_text("weights digest")
    expect(page.locator("main")).to_contain_text("41")
    expect(page.get_by_label("What was said")).to_contain_text(answer["response"])


def test_a_record_that_was_altered_in_the_file_says_so(page: Page, server: Server) -> None:
    index = recorded(server, "What are you?")["record"]["index"]
    path = f"/vault/records/{index}"
    told = httpx2.get(server.url + path).json()
    page.route(f"**{path}", lambda route: route.fulfill(json=told | {"altered": True}))
    page.goto(f"/#/vault/{index}")
    expect(page.get_by_text("altered in the vault's file")).to_be_visible()


def test_a_record_that_the_server_shows_otherwise_is_not_proven(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?")
    path = f"/vault/records/{answer['record']['index']}"
    told = httpx2.get(server.url + path).json() | {"response": "Something else."}
    page.route(f"**{path}", lambda route: route.fulfill(json=told))
    page.goto(f"/#{path.replace('records/', '')}")
    expect(page.get_by_label("Proof").locator(".badge").first).to_have_text("not proven")
    expect(page.get_by_label("Proof")).to_contain_text("What is shown is not what was recorded: response text.")


def forged(told: dict[str, Any], how: str) -> dict[str, Any]:
    """What a dishonest server tells of a call: words that are not on record, and salts that let them pass unchecked."""
    salts, text = told["salts"], told["response"].encode()
    if how == "moved":
        return told | {
            "response": text[20:].decode(),
            "salts": salts | {"response_text": salts["response_text"] + text[:20].hex()},
        }
    left = {} if how == "none" else {kind: salt for kind, salt in salts.items() if kind != how}
    return told | {"response": "Something else.", "salts": None if how == "null" else left}


@pytest.mark.parametrize("how", ["moved", "response_text", "none", "null"])
def test_words_without_their_whole_salt_are_not_proven(page: Page, server: Server, how: str) -> None:
    answer = recorded(server, "What model are you?")
    path = f"/vault/records/{answer['record']['index']}"
    told = forged(httpx2.get(server.url + path).json(), how)
    page.route(f"**{path}", lambda route: route.fulfill(json=told))
    page.goto(f"/#{path.replace('records/', '')}")
    expect(page.get_by_label("Proof").locator(".badge").first).to_have_text("not proven")
    expect(page.get_by_label("Proof")).to_contain_text("its salt is missing or does not have 32 bytes")


@pytest.mark.parametrize("kind", ["prompt_token_ids", "constraints"])
def test_content_beside_the_words_needs_its_salt_too(page: Page, server: Server, kind: str) -> None:
    answer = recorded(server, "What model are you?", stop=["quokka"])
    path = f"/vault/records/{answer['record']['index']}"
    told = httpx2.get(server.url + path).json()
    del told["salts"][kind]
    page.route(f"**{path}", lambda route: route.fulfill(json=told))
    page.goto(f"/#{path.replace('records/', '')}")
    expect(page.get_by_label("Proof").locator(".badge").first).to_have_text("not proven")


def test_a_proof_without_content_says_that_none_was_checked(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?", store=False)
    page.goto(f"/#/vault/{answer['record']['index']}")
    expect(page.get_by_label("Proof")).to_contain_text("No content is shown, so none was checked.")


def test_junk_among_the_signatures_is_refused(page: Page, server: Server) -> None:
    answer = recorded(server, "Hello")
    proof = httpx2.get(f"{server.url}/vault/records/{answer['record']['index']}/proof").raise_for_status().text
    key = httpx2.get(f"{server.url}/vault/head").headers["minivault-key"]
    signed = proof.rindex("\n\n") + 2
    added = [
        "the auditor approves\n",
        "\n",
        "\u2014 witness !!!!\n",
        "\u2014 witness AAAA\n",
        "\u2014 witness AAAAAAAA\n",
    ]
    tried = [text for junk in added for text in (proof[:signed] + junk + proof[signed:], proof + junk)]
    judged = page.evaluate(
        """async ([proofs, key]) => {
            const { checkProof } = await import("/assets/proof.js");
            return Promise.all(proofs.map((proof) => checkProof(proof, key).then(() => true, () => false)));
        }""",
        [tried, key],
    )
    assert judged == [False] * 8 + [True] * 2  # a witness's signature is no junk


def test_a_proof_is_refused_when_any_part_of_it_is_changed(page: Page, server: Server) -> None:
    answer = recorded(server, "Hello")
    proof = httpx2.get(f"{server.url}/vault/records/{answer['record']['index']}/proof").raise_for_status().text
    key = httpx2.get(f"{server.url}/vault/head").headers["minivault-key"]
    verdicts = page.evaluate(CHECK_ALL, [proof, key])
    assert verdicts["whole"] == "good"
    assert verdicts["taken"] == []
    assert verdicts["tried"] > 300


CHECK_ALL = """async ([proof, key]) => {
    const { checkProof } = await import("/assets/proof.js");
    const good = (text) => checkProof(text, key).then((proven) => proven.signature, () => null);
    const taken = [];
    let tried = 0;
    for (let at = 0; at < proof.length; at += 1) {
        const letter = proof[at] === "A" ? "B" : "A";
        tried += 1;
        if ((await good(proof.slice(0, at) + letter + proof.slice(at + 1))) !== null) taken.push(at);
    }
    return { whole: await good(proof), taken, tried };
}"""


def test_the_public_vectors_of_inclusion_are_judged_rightly(page: Page) -> None:
    rows = json.loads(VECTORS.read_text("utf-8"))["inclusion"]
    judged = page.evaluate(
        """async (rows) => {
            const { climb, decode } = await import("/assets/proof.js");
            const good = ([, index, size, leaf, proof, root]) =>
                climb(index, size, decode(leaf), proof.map(decode), decode(root)).then(() => true, () => false);
            return Promise.all(rows.map(good));
        }""",
        rows,
    )
    assert judged == [row[0] for row in rows]
    assert set(judged) == {True, False}


def test_a_replay_says_match_and_shows_the_text_and_tokens(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?", temperature=1.5)
    page.goto(f"/#/vault/{answer['record']['index']}")
    page.get_by_role("button", name="Run it again").click()
    replay = page.get_by_label("Replay")
    expect(replay.locator(".badge")).to_have_text("MATCH")
    expect(replay).to_contain_text("tokens are the same")
    replay.get_by_text("Token by token").click()
    expect(replay.locator(".chip")).to_have_count(12)


def test_a_mismatch_shows_where_tokens_differ(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?", temperature=1.5)
    index = answer["record"]["index"]
    told = httpx2.get(f"{server.url}/vault/records/{index}").json()
    told["response_token_ids"][3] = 7
    told["response"] = "Something else."
    page.route(f"**/vault/records/{index}", lambda route: route.fulfill(json=told))
    verdict = {"verdict": "MISMATCH", "reason": None, "position": 3, "expected_token_id": 7, "actual_token_id": 1}
    told_replay = verdict | {"compared_tokens": 4, "record": {"index": index - 1, "leaf": ""}}
    page.route("**/replay", lambda route: route.fulfill(json=told_replay))
    page.goto(f"/#/vault/{index}")
    page.get_by_role("button", name="Run it again").click()
    replay = page.get_by_label("Replay")
    expect(replay.locator(".badge")).to_have_text("MISMATCH at token 4")
    expect(replay.locator("del.chip")).to_have_text(["7"])
    expect(replay.locator(".diff del").first).to_be_visible()


def test_erasing_asks_first_and_leaves_the_proof(page: Page, server: Server) -> None:
    answer = recorded(server, "My name is Jonathan Doe")
    page.goto(f"/#/vault/{answer['record']['index']}")
    page.get_by_role("button", name="Erase content").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("What was said")).to_contain_text("Jonathan")
    page.get_by_role("button", name="Erase content").click()
    page.get_by_role("button", name="Erase for good").click()
    expect(page.get_by_label("What was said")).not_to_contain_text("Jonathan")
    expect(page.locator("main .badge").filter(has_text="erased by record")).to_be_visible()
    expect(page.get_by_label("Proof").locator(".badge").first).to_have_text("proven")
    assert httpx2.get(f"{server.url}/vault/records", params={"query": "Jonathan"}).json()["records"] == []


def test_erasing_takes_the_replay_with_it_and_says_so(page: Page, server: Server) -> None:
    answer = recorded(server, "What about the okapi please?")
    httpx2.post(f"{server.url}/vault/records/{answer['id']}/replay", timeout=240).raise_for_status()
    page.goto(f"/#/vault/{answer['record']['index']}")
    page.get_by_role("button", name="Erase content").click()
    expect(page.get_by_role("dialog")).to_contain_text("Its replays, and answers that were taken from its record")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("#toasts")).to_contain_text("Erased, with 1 replay or repeat.")
    assert httpx2.get(f"{server.url}/vault/records", params={"query": "okapi"}).json()["records"] == []


def test_what_the_caller_wrote_among_the_parameters_is_shown_checked_and_erased(page: Page, server: Server) -> None:
    form = {"type": "regex", "regex": "(tuned|broken) xylophone"}
    answer = recorded(server, "How is it?", response_format=form, stop=["quokka"])
    page.goto(f"/#/vault/{answer['record']['index']}")
    pinned = page.locator("section").filter(has_text="What it pins").last
    expect(pinned).to_contain_text('["quokka"]')
    expect(pinned).to_contain_text("(tuned|broken) xylophone")
    expect(page.get_by_label("Proof").locator(".badge").first).to_have_text("proven")
    expect(page.get_by_label("Proof").locator("pre")).not_to_contain_text("quokka")
    page.get_by_role("button", name="Erase content").click()
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("main .badge").filter(has_text="erased by record")).to_be_visible()
    expect(pinned).to_contain_text('"source":"Erased."')
    expect(pinned).not_to_contain_text("quokka")


def test_a_parameter_that_the_server_shows_otherwise_is_not_proven(page: Page, server: Server) -> None:
    answer = recorded(server, "What model are you?", stop=["quokka"])
    path = f"/vault/records/{answer['record']['index']}"
    told = httpx2.get(server.url + path).json() | {"constraints": '{"stop":["wallaby"]}'}
    page.route(f"**{path}", lambda route: route.fulfill(json=told))
    page.goto(f"/#{path.replace('records/', '')}")
    expect(page.get_by_label("Proof")).to_contain_text("What is shown is not what was recorded: constraints.")
    expect(page.locator("main")).to_contain_text("wallaby")


@pytest.mark.parametrize(("button", "form"), [("JSON Lines", "jsonl"), ("CSV", "csv")])
def test_what_fits_the_search_is_exported(page: Page, server: Server, button: str, form: str, downloads: Path) -> None:
    recorded(server, f"exported {form} walrus", max_tokens=1)
    page.goto("/#/vault")
    page.get_by_label("Search prompts and answers").fill(f"exported {form}")
    expect(page.locator(".call")).to_have_count(1)
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    file = downloads / download.value.suggested_filename
    download.value.save_as(file)
    text = file.read_text("utf-8")
    assert f"exported {form} walrus" in text
    assert len(text.strip().splitlines()) == (1 if form == "jsonl" else 2)


def test_a_vault_that_was_set_back_is_noticed(page: Page, server: Server) -> None:
    recorded(server, "Hello")
    page.goto("/#/vault")
    expect(page.locator(".fact .badge")).to_have_text("continuous")
    page.evaluate(
        """() => {
            const head = JSON.parse(localStorage.getItem("minivault.head"));
            localStorage.setItem("minivault.head", JSON.stringify({ ...head, size: head.size + 1000 }));
        }"""
    )
    page.reload()
    expect(page.locator(".fact .badge")).to_have_text("look here")
    page.locator(".fact button").click()
    expect(page.locator("dialog")).to_contain_text("The vault is smaller than it was")


def test_the_head_can_be_kept_as_it_was_signed(page: Page, server: Server, downloads: Path) -> None:
    recorded(server, "Hello")
    page.goto("/#/vault")
    page.locator(".fact button").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the head").click()
    download.value.save_as(downloads / "head")
    origin, size, root = (downloads / "head").read_text("utf-8").splitlines()[:3]
    assert origin.startswith("minivault.local/")
    assert int(size) > 0
    assert len(base64.b64decode(root)) == 32
