"""What tests of the page do again and again. Knows nothing of any one test."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, Route

from tests.e2e.server import Server

RUNS_SECONDS, RESTS_SECONDS = 0.002, 0.03

STORY = {"role": "user", "content": "Tell me a short story."}


def ask(page: Page, text: str) -> Locator:
    """Ask in the chat and wait for the end; the last answer."""
    page.fill("#prompt", text)
    page.keyboard.press("Enter")
    return ended(page)


@contextmanager
def in_slow_motion(server: Server) -> Iterator[None]:
    """The server runs for a moment in fifteen: on the fastest machine there is time to stop its answer."""
    over = threading.Event()

    def pulse() -> None:
        while not over.wait(RUNS_SECONDS):
            server.process.send_signal(signal.SIGSTOP)
            over.wait(RESTS_SECONDS)
            server.process.send_signal(signal.SIGCONT)

    pulsing = threading.Thread(target=pulse)
    pulsing.start()
    try:
        yield
    finally:
        over.set()
        pulsing.join()


def ended(page: Page) -> Locator:
    page.locator(".answered").last.wait_for()
    page.locator(".running").wait_for(state="detached")
    return page.locator(".answered").last


def body_of(deltas: Iterable[Mapping[str, str]], finish: str = "stop") -> str:
    """A chat stream with these deltas."""
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(events), "total_tokens": 9}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def answers(page: Page, *deltas: Mapping[str, str]) -> None:
    """From now on the server's answers are these."""

    def fulfil(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", headers={"minivault-record": "0:00"}, body=body_of(deltas))

    page.route("**/v1/chat/completions", fulfil)


def says(page: Page, text: str) -> Locator:
    """Have the server answer ``text``, and ask; the answer as it is shown."""
    answers(page, {"content": text})
    return ask(page, "Say it.").locator(".md")
