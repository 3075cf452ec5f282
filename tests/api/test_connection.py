"""Slow, endless and oversized requests, and clients that do not read: each is cut, and holds nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from minivault.api.app import create_app
from minivault.api.cross_origin import CrossOrigin
from minivault.cli.connection import MAX_HEADERS, ConnectionLimits
from minivault.settings import Settings
from tests.api.raw import connected, listening, posted
from tests.fakes import Bench, make_bench, says, until

QUICK = ConnectionLimits(head_timeout=0.2, body_timeout=0.2, write_timeout=0.2)
SLOW = ConnectionLimits(head_timeout=60, body_timeout=60, write_timeout=60)
ASK = b'{"prompt": "hi", "seed": 7}'


@contextlib.asynccontextmanager
async def served(limits: ConnectionLimits, bench: Bench | None = None) -> AsyncIterator[int]:
    app = create_app(Settings(rate_limit=""), service=(bench or make_bench()).service)
    async with listening(app, limits) as port:
        yield port


async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte at a time, for as long as the server takes them."""
    with contextlib.suppress(OSError):
        while True:
            writer.write(text)
            await writer.drain()
            await asyncio.sleep(0.01)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What came before the end; nothing where the connection was reset, since bytes of ours were still on their way."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def is_refused(answer: bytes, status: int) -> bool:
    """Told so, or just closed."""
    return not answer or answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_slowloris_a_head_that_drips_is_cut_at_its_deadline() -> None:
    async with served(QUICK) as port, connected(port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        dripping = asyncio.ensure_future(drip(writer, b"x: y\r\n"))
        answer = await until_closed(reader)
        dripping.cancel()
    assert is_refused(answer, 408)


async def test_half_a_head_is_told_that_it_came_too_late() -> None:
    async with served(QUICK) as port, connected(port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer


SEEN = b"origin: https://app.example\r\nx-request-id: r9\r\naccept: */*\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n" + SEEN, 408),
        (posted("/generate", b"{", SEEN.decode().strip(), length=20), 408),
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n" + SEEN + b"x: y\r\n" * MAX_HEADERS + b"\r\n", 431),
    ],
)
async def test_a_listed_page_may_read_why_it_was_not_heard(sent: bytes, status: int) -> None:
    app = create_app(Settings(rate_limit="", cors_origins=["https://app.example"]), service=make_bench().service)
    listed = CrossOrigin(["https://app.example"])
    async with listening(app, QUICK, listed) as port, connected(port) as (reader, writer):
        writer.write(sent)
        head = (await reader.read()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0].startswith(f"HTTP/1.1 {status} ".encode())
    assert b"access-control-allow-origin: https://app.example" in head
    assert b"x-request-id: r9" in head
    assert b"request-id: r9" not in head


async def test_what_is_not_heard_has_an_id_and_nothing_of_the_request_before() -> None:
    app = create_app(Settings(rate_limit="", cors_origins=["https://app.example"]), service=make_bench().service)
    listed = CrossOrigin(["https://app.example"])
    async with listening(app, QUICK, listed) as port, connected(port) as (reader, writer):
        writer.write(b"GET /nope HTTP/1.1\r\nhost: 127.0.0.1\r\n" + SEEN + b"\r\n")
        await reader.readuntil(b"not_found")
        await reader.readuntil(b"}}")
        writer.write(b"nonsense\r\n\r\n")
        head = (await reader.read()).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"access-control" not in head
    assert b"x-request-id: " in head
    assert b"r9" not in head


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/generate", {"error": {"message", "type", "param", "code"}}),
        ("/v1/chat/completions", {"error": {"message", "type", "param", "code"}}),
        ("/v1/messages?beta=true", {"type": None, "error": {"type", "message"}}),
        ("/api/chat", {"error": None}),
    ],
)
async def test_what_comes_too_late_is_told_in_the_shape_of_its_surface(
    path: str, shape: dict[str, set[str] | None]
) -> None:
    async with served(QUICK) as port, connected(port) as (reader, writer):
        writer.write(posted(path, b"{", length=1000))
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert {name: set(value) if isinstance(value, dict) else None for name, value in told.items()} == shape


async def test_slowloris_a_body_that_drips_is_cut_at_its_deadline() -> None:
    bench = make_bench()
    async with served(QUICK, bench) as port, connected(port) as (reader, writer):
        writer.write(posted("/generate", b"{", length=1000))
        dripping = asyncio.ensure_future(drip(writer, b" "))
        answer = await until_closed(reader)
        dripping.cancel()
    assert is_refused(answer, 408)
    assert not bench.ledger.intents


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with served(QUICK) as port, connected(port) as (reader, _):
        assert await reader.read() == b""


async def test_empty_lines_between_requests_do_not_keep_a_connection() -> None:
    async with served(QUICK) as port, connected(port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        dripping = asyncio.ensure_future(drip(writer, b"\r\n"))
        await until_closed(reader)
        dripping.cancel()


async def test_a_request_that_comes_in_pieces_in_time_is_answered() -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        for byte in posted("/generate", ASK, "connection: close"):
            writer.write(bytes([byte]))
            await writer.drain()
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"finish_reason": "stop"' in answer


async def test_the_deadline_of_a_body_does_not_end_its_answer() -> None:
    bench = make_bench(says("abc"))
    bench.engine.hold_after = 1
    async with served(QUICK, bench) as port, connected(port) as (reader, writer):
        writer.write(posted("/generate-stream", ASK, "connection: close"))
        await until(lambda: bench.engine.streams)
        async with connected(port) as (later_reader, later_writer):
            later_writer.write(posted("/generate", b"{", length=1000))
            assert is_refused(await until_closed(later_reader), 408)  # so the deadline of the first has passed too
        bench.engine.release()
        answer = await reader.read()
    assert answer.endswith(b"0\r\n\r\n")
    assert bench.outcome.response_text == "abc"


@pytest.mark.parametrize(
    "flood",
    [
        b"x: y\r\n" * (MAX_HEADERS + 1),
        b"x: " + b"y" * (33 << 10) + b"\r\n",
        b"".join(b"x%d: " % place + b"y" * 1000 + b"\r\n" for place in range(40)),
    ],
    ids=["many", "long", "both"],
)
async def test_a_header_flood_is_refused(flood: bytes) -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n" + flood + b"\r\n")
        assert is_refused(await until_closed(reader), 431)


async def test_a_header_without_an_end_is_refused() -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nx: ")
        dripping = asyncio.ensure_future(drip(writer, b"y" * 4096))
        assert is_refused(await until_closed(reader), 431)
        dripping.cancel()


async def test_a_long_address_is_refused() -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        writer.write(b"GET /" + b"a" * (33 << 10) + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert is_refused(await until_closed(reader), 431)


async def test_a_trailer_becomes_no_header() -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        head = posted("/generate", b"", "connection: close").replace(
            b"content-length: 0", b"transfer-encoding: chunked"
        )
        writer.write(head + b"%x\r\n" % len(ASK) + ASK + b"\r\n0\r\norigin: http://evil.example\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "smuggled",
    ["content-length: 5\r\ntransfer-encoding: chunked", "content-length: 1\r\ncontent-length: 2", "content-length: -1"],
)
async def test_request_smuggling_a_body_of_two_lengths_is_refused(smuggled: str) -> None:
    async with served(SLOW) as port, connected(port) as (reader, writer):
        writer.write(f"POST /generate HTTP/1.1\r\nhost: 127.0.0.1\r\n{smuggled}\r\n\r\n".encode() + b"0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_does_not_read_is_cut_and_recorded_with_what_it_was_sent() -> None:
    bench = make_bench(says("x" * 900_000, at_once=10_000))
    bench.engine.info = replace(bench.engine.info, context_length=2_000_000)
    async with served(QUICK, bench) as port, connected(port) as (_, writer):
        writer.write(posted("/generate-stream", b'{"prompt": "hi", "max_tokens": 1000000}'))
        await until(lambda: bench.ledger.outcomes)
    assert bench.outcome.finish_reason == "cancelled"
    assert 0 < len(bench.outcome.response_text) < 900_000


async def test_a_client_that_reads_in_the_end_loses_nothing() -> None:
    bench = make_bench(says("x" * 900_000, at_once=100_000))
    bench.engine.info = replace(bench.engine.info, context_length=2_000_000)
    async with served(SLOW, bench) as port, connected(port) as (reader, writer):
        writer.write(posted("/generate-stream", b'{"prompt": "hi", "max_tokens": 1000000}', "connection: close"))
        await until(lambda: bench.engine.streams)
        assert (await reader.read()).count(b"x") >= 900_000
    assert bench.outcome.finish_reason == "stop"


async def test_connections_beyond_the_cap_are_told_so_and_the_others_are_served() -> None:
    async with served(replace(SLOW, max_connections=2)) as port, connected(port), connected(port) as (reader, writer):
        async with connected(port) as (third, _):
            assert (await third.read()).startswith(b"HTTP/1.1 503 ")
        writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_connection_serves_one_request_after_another() -> None:
    async with served(SLOW) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            assert (await client.post("/generate", json={"prompt": "hi"})).status_code == 200
            assert (await client.get("/livez")).status_code == 200


async def test_log_injection_who_asks_for_a_websocket_is_answered_and_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "MQ=="}
    async with served(SLOW) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with caplog.at_level("DEBUG", logger="uvicorn.error"):
            caplog.clear()
            assert (await client.get("/livez", headers=ask)).status_code == 200
            assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


async def test_what_anthropics_clients_sent_has_its_id_where_they_look() -> None:
    async with served(QUICK) as port, connected(port) as (reader, writer):
        writer.write(posted("/v1/messages", b"{", "x-request-id: r9", length=20))
        head = (await reader.read()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0].startswith(b"HTTP/1.1 408 ")
    assert b"request-id: r9" in head
