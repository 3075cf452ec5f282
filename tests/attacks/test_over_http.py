"""Attacks on the door, each by its name. Those that other tests try already are in the table of docs/reliability.md."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from minivault.api.app import create_app
from minivault.cli.connection import ConnectionLimits
from minivault.models.chat_template import ChatTemplate
from minivault.settings import Settings
from minivault.telemetry.logging import configure_logging
from tests.api.client import client_of
from tests.api.raw import connected, listening
from tests.fakes import make_bench, says

SECRET = "root:x:0"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..\\..\\etc\\passwd",
        "/docs/../../../../etc/passwd",
        "/assets//etc/passwd",
        "//etc/passwd",
        "/assets/%00/etc/passwd",
    ],
)
async def test_path_traversal_reads_no_file(path: str) -> None:
    app = create_app(Settings(rate_limit=""), service=make_bench().service)
    async with listening(app, ConnectionLimits()) as port, connected(port) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert SECRET.encode() not in answer


@pytest.mark.parametrize("name", ["../guide", "..%2fguide", "/etc/passwd", "~/x", "a\x00b", "con\nfig"])
async def test_path_traversal_by_the_name_of_a_model_finds_none(name: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answer = await client.post("/generate", json={"prompt": "hi", "model": name})
    assert answer.status_code == 404
    assert not bench.ledger.intents


@pytest.mark.parametrize("code", ["{{ 7 * 7 }}", "{% for x in range(9) %}4{% endfor %}", "{{ ''.__class__.__mro__ }}"])
async def test_ssti_what_a_user_says_is_never_a_template(code: str) -> None:
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    bench = make_bench()
    bench.model.chat_template = ChatTemplate.compile(source, {})  # type: ignore[assignment]
    async with client_of(bench) as client:
        answer = await client.post("/generate", json={"prompt": code, "system": code})
    assert answer.status_code == 200
    given = bytes(token for token in bench.engine.requests[0].prompt_token_ids if token < 256).decode()
    assert given == f"<system>{code}<user>{code}"


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_sse_forging_an_answer_cannot_write_events(path: str) -> None:
    forged = 'x\n\ndata: [DONE]\n\nevent: error\ndata: {"error": 1}\r\rdata: y\n\n'
    bench = make_bench(says(forged, at_once=7), template=True)
    turns = [{"role": "user", "content": "hi"}]
    body: dict[str, Any] = {"model": "fake", "stream": True}
    body |= {"/generate": {"prompt": "hi"}, "/v1/responses": {"input": "hi"}}.get(path, {"messages": turns})
    body |= {"max_tokens": 200} if path != "/v1/responses" else {}
    async with client_of(bench) as client:
        text = (await client.post(path, json=body)).text
    assert "\r" not in text
    lines = [line for line in text.split("\n") if line]
    assert all(line.startswith(("data: {", "event: ", "data: [DONE]")) for line in lines)
    assert lines.count("data: [DONE]") <= 1
    assert not any(line == "event: error" for line in lines)
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert all("error" not in event or event["error"] is None for event in events)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The server's log in memory, without the diary of the tests' own client."""
    root, client_log = logging.getLogger(), logging.getLogger("httpx2")
    handlers, level = root.handlers[:], root.level
    client_log.disabled = True
    yield io.StringIO()
    client_log.disabled = False
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "console"])
async def test_log_injection_lines_are_one_each(log: io.StringIO, form: Literal["json", "console"]) -> None:
    configure_logging("info", form, log)
    async with client_of(make_bench()) as client:
        await client.post("/generate%0aFORGED", json={"prompt": "FORGED\n"}, headers={"X-Request-ID": "a b\tFORGED"})
        await client.post("/generate", json={"prompt": "FORGED\n"})
        await client.request("FORGED", "/generate")
    lines = log.getvalue().splitlines()
    assert len([line for line in lines if "minivault.http" in line]) == len(lines) == 3
    assert "FORGED" not in log.getvalue()


async def test_terminal_injection_control_characters_come_escaped_in_json() -> None:
    bench = make_bench(says("\x1b[2J\x07\x9b1m"))
    async with client_of(bench) as client:
        answer = await client.post("/generate", json={"prompt": "\x1b]0;owned\x07"})
    assert b"\x1b" not in answer.content
    assert b"\x07" not in answer.content


async def test_stored_xss_what_was_said_is_never_a_page() -> None:
    script = "<script>alert(1)</script>"
    bench = make_bench(says(script))
    async with client_of(bench) as client:
        asked = await client.post("/generate", json={"prompt": script})
        answers = [asked, await client.get(f"/vault/records/{asked.json()['id']}"), await client.get("/vault/records")]
        answers.append(await client.post("/generate-stream", json={"prompt": script}))
    for answer in answers:
        assert answer.status_code == 200
        assert script in answer.text
        assert answer.headers["content-type"].partition(";")[0] in ("application/json", "text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_xss_pages_allow_no_script_of_their_own_lines(path: str) -> None:
    async with client_of(make_bench()) as client:
        page = await client.get(path, headers={"accept": "text/html"})
    policy = page.headers["content-security-policy"]
    scripts = next((part for part in policy.split(";") if part.strip().startswith(("script-src", "default-src"))), "")
    assert "unsafe-inline" not in scripts
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 401, "1e-400", "9" * 300, "NaN", "-Infinity"])
async def test_huge_numbers_are_refused_and_cost_nothing(number: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        raw = f'{{"prompt": "hi", "seed": {number}}}'.encode()
        answer = await client.post("/generate", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 300
    assert not bench.ledger.intents


@pytest.mark.parametrize("header", ["forwarded", "x-real-ip", "x-client-ip", "x-forwarded-host", "x-original-url"])
async def test_forwarding_headers_of_any_name_change_nothing(header: str) -> None:
    bench = make_bench()
    async with client_of(bench, rate_limit="1/minute") as client:
        first = await client.post("/generate", json={"prompt": "hi"}, headers={header: "203.0.113.1"})
        second = await client.post("/generate", json={"prompt": "hi"}, headers={header: "203.0.113.2"})
    assert (first.status_code, second.status_code) == (200, 429)


async def test_a_header_cannot_split_the_response() -> None:
    async with client_of(make_bench()) as client:
        answer = await client.get("/livez", headers={"X-Request-ID": "a%0d%0aset-cookie: x=1"})
    assert "set-cookie" not in answer.headers
    assert "%0d" not in answer.headers["x-request-id"]
