"""Diagnostic logs: one JSON object a line, uvicorn's among them, and never what a client sent."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from minivault.telemetry.logging import bound_request, configure_logging, describe_error, get_logger
from tests.api.client import client_of
from tests.api.keyed import keyed_client
from tests.fakes import make_bench


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Logs as JSON into memory; the logging of the other tests is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    target = io.StringIO()
    configure_logging("info", "auto", target)
    yield target
    logging.getLogger("httpx2").setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_event_level_time_and_the_requests_id(stream: io.StringIO) -> None:
    with bound_request("r1"):
        get_logger("minivault.test").info("done", tokens=3)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "done", "level": "info", "logger": "minivault.test", "request_id": "r1", "tokens": 3}


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    get_logger("minivault.test").debug("quiet")
    assert lines(stream) == []


@pytest.mark.parametrize(("level", "told"), [("info", []), ("debug", ["HTTP Request"])])
def test_requests_to_remote_models_are_told_of_only_in_search_of_a_fault(
    stream: io.StringIO, level: str, told: list[str]
) -> None:
    configure_logging(level, "auto", stream)
    logging.getLogger("httpx2").info("HTTP Request")
    assert [line["event"] for line in lines(stream)] == told


def test_the_standard_librarys_logs_go_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("%s went", "it", extra={"color_message": "x"})
    [line] = lines(stream)
    assert (line["event"], line["logger"], "color_message" in line) == ("it went", "uvicorn.error", False)


@pytest.mark.parametrize("name", ["minivault.test", "uvicorn.error"])
def test_an_exception_is_told_by_type_and_place_and_not_by_message(stream: io.StringIO, name: str) -> None:
    try:
        raise ValueError("the prompt was s3cr3t")
    except ValueError:
        logging.getLogger(name).exception("broke")
        get_logger(name).exception("broke too")
    assert all(line["error_type"] == "ValueError" for line in lines(stream))
    assert all("test_logging.py" in line["where"][0] for line in lines(stream))
    assert "s3cr3t" not in stream.getvalue()


def test_an_error_is_described_by_where_it_was_raised() -> None:
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError) as caught:
        nothing["s3cr3t"]
    described = describe_error(caught.value)
    assert described["error_type"] == "KeyError"
    assert "s3cr3t" not in str(described)


async def test_requests_are_logged_by_route_and_never_by_content(stream: io.StringIO) -> None:
    async with client_of(make_bench()) as client:
        await client.post("/generate", json={"prompt": "s3cr3t"}, headers={"x-request-id": "r1"})
        await client.post("/generate?s3cr3t=1", json={"prompt": "s3cr3t"})
        await client.post("/generate", json={"s3cr3t": 1})
        await client.get("/s3cr3t%0Aforged")
        await client.get("/vault/records/s3cr3t")
        await client.get("/livez")
    logged = [(line["method"], line["route"], line["status"]) for line in lines(stream) if line["event"] == "request"]
    assert logged == [
        ("POST", "/generate", 200),
        ("POST", "/generate", 422),
        ("POST", "/generate", 422),
        ("GET", "unmatched", 404),
        ("GET", "/vault/records/{id}", 404),
    ]
    assert lines(stream)[0]["request_id"] == "r1"
    assert "s3cr3t" not in stream.getvalue()


async def test_a_refused_request_is_logged_by_route_and_key(stream: io.StringIO) -> None:
    async with keyed_client(make_bench()) as (client, keys):
        keys.add("few", requests="1/minute")
        await client.get("/vault/records/s3cr3t")
        for _ in range(2):
            await client.get("/models", headers=keys.headers("few"))
        await client.post("/generate", json={"prompt": "hi"}, headers=keys.headers("auditor"))
    told = [(line["route"], line["status"], line.get("key")) for line in lines(stream) if line["event"] == "request"]
    few, auditor = keys.ids["few"], keys.ids["auditor"]
    assert told == [
        ("/vault/records/{id}", 401, None),
        ("/models", 200, few),
        ("/models", 429, few),
        ("/generate", 403, auditor),
    ]
    assert "s3cr3t" not in stream.getvalue()


async def test_a_fault_of_ours_is_logged_without_what_the_client_sent(stream: io.StringIO) -> None:
    def broken(request: Any) -> Any:
        raise RuntimeError(f"cannot take {bytes(request.prompt_token_ids[1:])!r}")

    async with client_of(make_bench(broken)) as client:
        await client.post("/generate", json={"prompt": "s3cr3t"})
        await client.post("/generate", json={"prompt": "s3cr3t", "stream": True})
    faults = [line for line in lines(stream) if line["level"] == "error"]
    assert [line["error_type"] for line in faults] == ["RuntimeError"] * 2
    assert "s3cr3t" not in stream.getvalue()


def test_the_console_is_for_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    target = Terminal()
    try:
        configure_logging("info", "auto", target)
        get_logger("minivault.test").info("hello")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("uvicorn.access").disabled = False
        structlog.reset_defaults()
    assert "hello" in target.getvalue()
    assert not target.getvalue().startswith("{")
