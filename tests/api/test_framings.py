"""One answer, every framing: the same bytes, and the frames that the wire promises."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx2
import pytest

from minivault.engine.engine import EngineRequest, TokenStep
from tests.api.client import client_of
from tests.fakes import breaks_after, make_bench, says

TEXT = ' grüße\n\r\n ✓ "quoted" \\ \u2028 data: x\n\n end  '


def of_sse(body: bytes) -> str:
    return "".join(event.get("token", "") for event in sse_events(body))


def sse_events(body: bytes) -> list[dict[str, Any]]:
    frames = body.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames if frame != "data: [DONE]"]


def of_lines(body: bytes) -> str:
    return "".join(json.loads(line).get("response", "") for line in body.splitlines())


def of_plain(body: bytes) -> str:
    return body.decode()


def of_json(body: bytes) -> str:
    return str(json.loads(body)["response"])


FRAMINGS = [
    ("/generate", {}, None, "application/json", of_json),
    ("/generate", {}, "application/json", "application/json", of_json),
    ("/generate", {}, "*/*", "application/json", of_json),
    ("/generate", {}, "text/html,application/xhtml+xml,*/*;q=0.8", "application/json", of_json),
    ("/generate", {}, "text/event-stream", "text/event-stream", of_sse),
    ("/generate", {}, "application/x-ndjson", "application/x-ndjson", of_lines),
    ("/generate", {}, "text/plain", "text/plain", of_plain),
    ("/generate", {}, "text/plain;q=0.5, application/x-ndjson", "application/x-ndjson", of_lines),
    ("/generate", {}, "text/plain;q=0, application/json;q=0.1", "application/json", of_json),
    ("/generate", {"stream": True}, None, "text/event-stream", of_sse),
    ("/generate", {"stream": True}, "*/*", "text/event-stream", of_sse),
    ("/generate", {"stream": True}, "application/json", "text/event-stream", of_sse),
    ("/generate", {"stream": True}, "application/x-ndjson", "application/x-ndjson", of_lines),
    ("/generate", {"stream": True}, "text/plain", "text/plain", of_plain),
    ("/generate/stream", {}, None, "application/x-ndjson", of_lines),
    ("/generate/stream", {}, "text/event-stream", "text/event-stream", of_sse),
    ("/generate/stream", {}, "text/plain", "text/plain", of_plain),
    ("/generate-stream", {}, None, "text/plain", of_plain),
    ("/generate-stream", {"stream": True}, "application/x-ndjson", "application/x-ndjson", of_lines),
]


async def post(client: httpx2.AsyncClient, path: str, fields: dict[str, Any], accept: str | None) -> httpx2.Response:
    client.headers.pop("accept", None)
    headers = {} if accept is None else {"accept": accept}
    return await client.post(path, json={"prompt": "hi", "seed": 7, **fields}, headers=headers)


@pytest.mark.parametrize(("path", "fields", "accept", "media_type", "text_of"), FRAMINGS)
@pytest.mark.parametrize("at_once", [1, 5, 1000])
async def test_every_framing_gives_the_same_bytes(
    path: str, fields: dict[str, Any], accept: str | None, media_type: str, text_of: Any, at_once: int
) -> None:
    async with client_of(make_bench(says(TEXT, at_once=at_once))) as client:
        response = await post(client, path, fields, accept)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type
    assert text_of(response.content) == TEXT


async def test_a_seeded_request_gives_the_same_bytes_in_all_framings() -> None:
    async with client_of(make_bench()) as client:
        found = {
            text_of((await post(client, path, fields, accept)).content) for path, fields, accept, _, text_of in FRAMINGS
        }
    assert len(found) == 1


async def test_the_whole_answer_has_all_that_the_wire_names() -> None:
    bench = make_bench(says("hello"))
    async with client_of(bench) as client:
        response = await post(client, "/generate", {}, None)
    body = response.json()
    record = body.pop("record")
    assert body.pop("generated_at").endswith("Z")
    assert body == {
        "id": response.headers["x-request-id"],
        "model": "fake",
        "response": "hello",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        "seed": 7,
    }
    assert response.headers["minivault-record"] == f"{record['index']}:{record['leaf']}" == f"1:{record['leaf']}"


async def test_sse_events_are_numbered_and_closed_by_usage_and_done() -> None:
    async with client_of(make_bench(says("ab"))) as client:
        response = await post(client, "/generate", {"stream": True}, None)
    events = sse_events(response.content)
    assert events[:2] == [{"token": "a", "index": 0}, {"token": "b", "index": 1}]
    last = events[2]
    assert (last["token"], last["index"], last["finish_reason"], last["seed"]) == ("", 2, "stop", 7)
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert set(last["record"]) == {"index", "leaf"}
    assert response.content.endswith(b"\n\ndata: [DONE]\n\n")


async def test_json_lines_end_with_done() -> None:
    async with client_of(make_bench(says("ab"))) as client:
        response = await post(client, "/generate/stream", {}, None)
    lines = [json.loads(line) for line in response.content.splitlines()]
    assert lines[:2] == [{"response": "a"}, {"response": "b"}]
    assert set(lines[2]) == {"response", "done", "usage", "finish_reason", "seed", "record"}
    assert lines[2]["done"] is True


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson", "text/plain"])
async def test_streams_are_not_cached_or_buffered_and_name_the_record_of_their_beginning(accept: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        headers = (await post(client, "/generate", {}, accept)).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["minivault-record"].startswith("0:")
    assert "content-length" not in headers


async def test_a_failure_in_the_middle_is_an_sse_error_and_never_done() -> None:
    async with client_of(make_bench(breaks_after("part"))) as client:
        response = await post(client, "/generate", {"stream": True}, None)
    events = sse_events(response.content)
    assert events[0]["token"] == "part"
    assert events[-1] == {
        "error": {"message": "the engine broke", "type": "server_error", "param": None, "code": "engine_failed"}
    }
    assert b"[DONE]" not in response.content


async def test_a_timeout_within_the_engine_is_a_failure_and_no_client_that_went() -> None:
    def answer(_request: EngineRequest) -> Iterable[TokenStep]:
        yield TokenStep(tuple(b"part"))
        raise TimeoutError

    bench = make_bench(answer)
    async with client_of(bench) as client:
        response = await post(client, "/generate", {"stream": True}, None)
    assert sse_events(response.content)[-1]["error"]["code"] == "internal_error"
    assert [outcome.finish_reason for outcome in bench.ledger.outcomes] == ["failed"]


async def test_a_failure_in_the_middle_is_an_error_line() -> None:
    async with client_of(make_bench(breaks_after("part"))) as client:
        lines = [json.loads(line) for line in (await post(client, "/generate/stream", {}, None)).content.splitlines()]
    assert [list(line) for line in lines] == [["response"], ["error"]]


@pytest.mark.parametrize("path", ["/generate", "/generate/stream"])
async def test_an_outcome_that_cannot_be_written_ends_a_stream_with_an_error_and_no_closing_event(path: str) -> None:
    bench = make_bench(says("answer"))
    bench.ledger.faults = ["outcome"]
    async with client_of(bench) as client:
        response = await post(client, path, {"stream": True}, None)
    assert b'"code": "ledger_unavailable"' in response.content.splitlines()[-1 if path != "/generate" else -2]
    assert b"[DONE]" not in response.content
    assert b'"done"' not in response.content
    assert b"finish_reason" not in response.content


async def test_a_failure_before_the_first_token_of_a_whole_answer_is_a_status() -> None:
    async with client_of(make_bench(breaks_after(""))) as client:
        assert (await post(client, "/generate", {}, None)).status_code == 500


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
@pytest.mark.parametrize("fault", ["intent", "outcome"])
async def test_a_ledger_that_fails_gives_503_and_nothing_answered(fields: dict[str, Any], fault: str) -> None:
    bench = make_bench(says("secret"))
    bench.ledger.faults = [fault]
    async with client_of(bench) as client:
        response = await post(client, "/generate", fields, None)
        again = await post(client, "/generate", fields, None)
    if fault == "intent" or not fields:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert "secret" not in response.text
    assert again.status_code == 200


async def test_logprobs_come_with_bytes_and_alternatives() -> None:
    bench = make_bench(says("é", logprobs=True))
    async with client_of(bench) as client:
        whole = (await post(client, "/generate", {"logprobs": 1}, None)).json()
        events = sse_events((await post(client, "/generate", {"logprobs": 1, "stream": True}, None)).content)
    assert [entry["bytes"] for entry in whole["logprobs"]] == [[0xC3], [0xA9]]
    assert whole["logprobs"][0]["logprob"] == -0.5
    assert [entry["logprob"] for entry in whole["logprobs"][0]["top_logprobs"]] == [-0.5, -3.0]
    assert [entry for event in events for entry in event.get("logprobs", [])] == whole["logprobs"]


async def test_without_being_asked_there_are_no_logprobs() -> None:
    async with client_of(make_bench(says("a"))) as client:
        assert "logprobs" not in (await post(client, "/generate", {}, None)).json()


@pytest.mark.parametrize("path", ["/generate/stream", "/generate-stream"])
async def test_a_path_that_streams_refuses_not_to(path: str) -> None:
    bench = make_bench()
    async with client_of(bench) as client:
        answer = await client.post(path, json={"prompt": "hi", "stream": False})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, "stream")
    assert "POST /generate at once" in error["message"]
    assert bench.ledger.intents == []
