"""The client of the native surface: what it sends, what it makes of answers and of failures."""

from __future__ import annotations

import socket

import httpx2
import pytest
from typer.testing import CliRunner

from minivault.cli.client import Client
from minivault.cli.console import CliError
from minivault.cli.main import app
from tests.cli.scripted import Answer, scripted

DONE = {"response": "", "done": True, "finish_reason": "stop"}


def test_a_prompt_is_sent_as_given() -> None:
    with scripted(generate=Answer.json({"response": "hi"})) as server, Client(server.url) as client:
        assert client.generate({"prompt": " x\n"}) == {"response": "hi"}
    assert server.asked == [{"prompt": " x\n"}]


NUMBERS = (
    *("max_tokens", "min_tokens", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "seed"),
)


def test_an_option_of_zero_is_sent_and_one_not_given_is_not() -> None:
    options = [word for name in NUMBERS for word in (f"--{name.replace('_', '-')}", "0")]
    with scripted(generate=Answer.json({"response": "hi"})) as server:
        CliRunner().invoke(app, ["generate", "x", "--json", "--url", server.url, *options])
        CliRunner().invoke(app, ["generate", "x", "--json", "--url", server.url])
    assert server.asked == [{"prompt": "x", **dict.fromkeys(NUMBERS, 0)}, {"prompt": "x"}]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/", "127.0.0.1:9/v1"])
def test_an_address_for_openais_clients_is_told_to_be_without_its_path(url: str) -> None:
    with pytest.raises(CliError, match="without /v1"):
        Client(url)


def test_a_conversation_sends_an_option_of_zero() -> None:
    options = ("--seed", "0", "--max-tokens", "0", "--temperature", "0", "--top-p", "0")
    answers = {"generate": Answer.json({"response": "hi"}), "openapi.json": Answer.json({})}
    with scripted(**answers) as server:
        CliRunner().invoke(app, ["chat", "--no-stream", "--url", server.url, *options], input="x\n")
    assert server.asked == [{"prompt": "x", "seed": 0, "max_tokens": 0, "temperature": 0, "top_p": 0}]


def test_a_stream_ends_with_the_piece_that_is_done() -> None:
    with scripted(generate_stream=Answer.lines({"response": "a"}, DONE)) as server, Client(server.url) as client:
        assert list(client.stream({"prompt": "x"})) == [{"response": "a"}, DONE]


def test_a_line_cut_into_network_chunks_is_put_together() -> None:
    raw = Answer.lines({"response": "grü\u2028ße"}, DONE)
    body = b"".join(raw.chunks)
    answer = Answer([body[i : i + 1] for i in range(len(body))])
    with scripted(generate_stream=answer) as server, Client(server.url) as client:
        assert next(client.stream({"prompt": "x"})) == {"response": "grü\u2028ße"}


def test_a_stream_without_an_end_is_a_failure() -> None:
    with scripted(generate_stream=Answer.lines({"response": "a"})) as server, Client(server.url) as client:
        pieces = client.stream({"prompt": "x"})
        assert next(pieces) == {"response": "a"}
        with pytest.raises(CliError, match="incomplete"):
            next(pieces)


def test_a_cut_connection_is_a_failure() -> None:
    answer = Answer.lines({"response": "a"})
    answer.cut = True
    with (
        scripted(generate_stream=answer) as server,
        Client(server.url) as client,
        pytest.raises(CliError, match="broke"),
    ):
        list(client.stream({"prompt": "x"}))


def test_an_error_inside_a_stream_is_told() -> None:
    answer = Answer.lines({"response": "a"}, {"error": {"message": "The engine stopped."}})
    with (
        scripted(generate_stream=answer) as server,
        Client(server.url) as client,
        pytest.raises(CliError, match="The engine stopped"),
    ):
        list(client.stream({"prompt": "x"}))


@pytest.mark.parametrize(("status", "exit_code"), [(400, 2), (422, 2), (404, 1), (500, 1), (503, 1)])
def test_a_refusal_is_told_in_the_servers_words(status: int, exit_code: int) -> None:
    answer = Answer.json({"error": {"message": "temperature must be at most 2"}}, status)
    with (
        scripted(generate=answer) as server,
        Client(server.url) as client,
        pytest.raises(CliError, match="temperature must be at most 2") as caught,
    ):
        client.generate({"prompt": "x"})
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("said", ["The queue is full.", "The queue is full"])
def test_a_refused_stream_is_told_too(said: str) -> None:
    answer = Answer.json({"error": {"message": said}}, 503, Retry_After="3")
    with (
        scripted(generate_stream=answer) as server,
        Client(server.url) as client,
        pytest.raises(CliError, match=r"The queue is full\. Try again in 3 s"),
    ):
        list(client.stream({"prompt": "x"}))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"\xff"])
def test_an_answer_that_is_no_minivault_answer_is_told(body: bytes) -> None:
    with (
        scripted(health=Answer([body] if body else [])) as server,
        Client(server.url) as client,
        pytest.raises(CliError, match="Is the URL right"),
    ):
        client.health()


def test_no_server_says_how_to_start_one() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(CliError, match=r"Start one with: .* serve"):
            client.health()


def test_a_url_may_leave_out_http() -> None:
    with scripted(health=Answer.json({"status": "ok"})) as server, Client(server.url.removeprefix("http://")) as client:
        assert client.health() == {"status": "ok"}


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "file:///etc/passwd", "http://a..b:1"])
def test_a_url_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(CliError, match="--url") as caught:
        Client(url)
    assert caught.value.exit_code == 2


def test_the_key_is_shown_and_its_absence_is_told() -> None:
    shown = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        shown.append(request.headers.get("authorization"))
        return httpx2.Response(401, json={"error": {"message": "An API key is needed.", "code": "missing_api_key"}})

    for key in (None, "mv_a_b"):
        client = Client("http://127.0.0.1", api_key=key, transport=httpx2.MockTransport(refuse))
        with client, pytest.raises(CliError, match="MINIVAULT_API_KEY"):
            client.health()
    assert shown == [None, "Bearer mv_a_b"]


@pytest.mark.parametrize("key", ["mv_é", "a b", "a\nb"])
def test_a_key_that_cannot_be_sent_is_not_echoed(key: str) -> None:
    with pytest.raises(CliError) as refused:
        Client("http://127.0.0.1:1", api_key=key)
    assert key not in str(refused.value)


def test_a_proxy_in_the_environment_is_not_asked_about_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with scripted(health=Answer.json({"status": "ok"})) as server, Client(server.url) as client:
        assert client.health() == {"status": "ok"}
