"""What breaks clients below their packages: bytes on a real socket, the same on every surface that has them."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx2
import pytest

from tests.clients.scripted import Scripted
from tests.e2e.server import PATIENCE
from tests.fakes import breaks_after, says

TURNS = [{"role": "user", "content": "hi"}]
SAID = " h\u00e9llo \u2713\n\n  \U0001f600x "
CHAT: dict[str, Any] = {"model": "fake", "messages": TURNS}

STREAMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "native SSE": ("/generate", {"prompt": "hi", "stream": True}, "token"),
    "native lines": ("/generate/stream", {"prompt": "hi"}, "response"),
    "chat": ("/v1/chat/completions", CHAT | {"stream": True}, "choices.0.delta.content"),
    "completions": ("/v1/completions", {"prompt": "hi", "stream": True, "max_tokens": 99}, "choices.0.text"),
    "responses": ("/v1/responses", {"input": "hi", "stream": True}, "delta"),
    "messages": ("/v1/messages", CHAT | {"stream": True, "max_tokens": 99}, "delta.text"),
    "Ollama chat": ("/api/chat", CHAT, "message.content"),
    "Ollama generate": ("/api/generate", {"model": "fake", "prompt": "hi"}, "response"),
}
"""Path, body, and where the text of an event is."""
each_stream = pytest.mark.parametrize("name", STREAMS)


def raw_exchange(server: Scripted, request: bytes) -> bytes:
    """All bytes of the answers to a request that ends its connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def request_bytes(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def writes_of(server: Scripted, path: str, body: dict[str, Any]) -> list[bytes]:
    """The chunks of a chunked answer: each is one write of the server."""
    sent = json.dumps(body).encode()
    _, _, rest = raw_exchange(server, request_bytes("POST", path, sent, "Connection: close")).partition(b"\r\n\r\n")
    writes = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        writes.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert writes.pop() == b"", "the end of a chunked body"
    return writes


def data_of(write: bytes) -> Any:
    """An event's data, or a line's."""
    lines = [line for line in write.decode().split("\n") if line]
    text = lines[-1].removeprefix("data: ")
    return {} if text == "[DONE]" else json.loads(text)


def found_at(value: Any, place: str) -> str:
    for name in place.split("."):
        if isinstance(value, list):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


# -- streams -----------------------------------------------------------------------------------------------------------


@each_stream
def test_an_event_in_two_writes_or_two_in_one_stalls_a_reader(server: Scripted, name: str) -> None:
    path, body, _ = STREAMS[name]
    writes = writes_of(server, path, body)
    assert len(writes) > 3
    end = b"\n" if path.startswith("/api/") or path.endswith("/stream") else b"\n\n"
    assert all(write.endswith(end) and write.count(end) == 1 for write in writes)


@each_stream
def test_an_id_line_or_a_comment_in_a_stream_breaks_simple_parsers(server: Scripted, name: str) -> None:
    path, body, _ = STREAMS[name]
    lines = [line for write in writes_of(server, path, body) for line in write.split(b"\n") if line]
    assert all(line.startswith((b"data: ", b"event: ", b"{")) for line in lines)


@each_stream
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_split_character_or_a_lost_space_changes_the_answer(server: Scripted, name: str, at_once: int) -> None:
    server.bench.engine.answer = says(SAID, at_once=at_once)
    path, body, place = STREAMS[name]
    writes = writes_of(server, path, body)
    assert "".join(found_at(data_of(write), place) for write in writes) == SAID


@each_stream
def test_a_proxy_that_buffers_or_caches_a_stream_is_told_not_to(server: Scripted, name: str) -> None:
    path, body, _ = STREAMS[name]
    headers = httpx2.post(server.url + path, json=body, timeout=PATIENCE).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    lines = path.startswith("/api/") or path.endswith("/stream")
    assert headers["content-type"].startswith("application/x-ndjson" if lines else "text/event-stream")


@each_stream
def test_a_part_that_ends_like_a_whole_is_taken_for_one(server: Scripted, name: str) -> None:
    server.bench.engine.answer = breaks_after("part")
    path, body, _ = STREAMS[name]
    said = b"".join(writes_of(server, path, body))
    ends = (b"[DONE]", b'"done": true', b'"done":true', b"message_stop", b"response.completed", b'"finish_reason": "')
    assert b"error" in said
    assert not any(end in said for end in ends)


@each_stream
def test_an_answer_that_does_not_name_its_call_cannot_be_found_again(server: Scripted, name: str) -> None:
    path, body, _ = STREAMS[name]
    for stream in (True, False):
        if stream or name != "native lines":
            answer = httpx2.post(
                server.url + path, json=body | {"stream": stream}, headers={"X-Request-ID": "call-7"}, timeout=PATIENCE
            )
            assert answer.headers["x-request-id"] == "call-7"
            assert answer.headers["minivault-record"].count(":") == 1


# -- bodies ------------------------------------------------------------------------------------------------------------

PATHS = sorted({path for path, _, _ in STREAMS.values()} | {"/v1/embeddings", "/v1/messages/count_tokens"})
UNREADABLE: dict[str, tuple[bytes, int]] = {
    "not JSON": (b'{"model": s3cr3t', 400),
    "a key twice": (b'{"s3cr3t": 1, "s3cr3t": 2}', 400),
    "NaN": (b'{"s3cr3t": NaN}', 400),
    "half a pair": (b'{"s3cr3t": "\\ud83d"}', 400),
    "not UTF-8": (b'{"s3cr3t": "\xff"}', 400),
    "too deep": (b'{"s3cr3t": ' + b"[" * 100 + b"]" * 100 + b"}", 400),
    "too large": (b'{"s3cr3t": "' + b"a" * (1 << 20) + b'"}', 413),
    "a list": (b'["s3cr3t"]', 422),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", UNREADABLE)
def test_a_body_that_two_parsers_read_differently_is_refused_alike_everywhere(
    server: Scripted, path: str, fault: str
) -> None:
    body, status = UNREADABLE[fault]
    answer = httpx2.post(
        server.url + path, content=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE
    )
    assert answer.status_code in (status, 400)
    assert "s3cr3t" not in answer.text
    error = answer.json()["error"]
    assert isinstance(error, str if path.startswith("/api/") else dict)
    assert ("type" in answer.json()) == path.startswith("/v1/messages")
    assert server.ended() == []


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("/api/")])
def test_a_form_or_a_text_from_another_sites_page_is_no_request(server: Scripted, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = httpx2.post(
            server.url + path, content=b'{"prompt": "hi"}', headers={"Content-Type": kind}, timeout=PATIENCE
        )
        assert answer.status_code == 415


def test_a_client_that_waits_to_be_told_to_send_its_body_is_told(server: Scripted) -> None:
    body = b'{"prompt": "hi"}'
    answer = raw_exchange(server, request_bytes("POST", "/generate", body, "Expect: 100-continue", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n")
    assert b"HTTP/1.1 200 OK" in answer


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_a_body_after_head_is_read_as_the_next_answer(server: Scripted, path: str) -> None:
    probe = request_bytes("HEAD", path)
    answers = raw_exchange(server, probe + request_bytes("GET", "/livez", b"", "Connection: close"))
    first, second, body = answers.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)
