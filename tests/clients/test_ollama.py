"""The ``ollama`` package, as people use it, against ``minivault serve``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import ollama
import pytest

from tests.clients.records import left_midway
from tests.e2e.server import PATIENCE, Server, serving

SEEDED = {"seed": 7, "num_predict": 40}
ENDLESS = {"temperature": 10.0, "num_predict": -1, "top_p": 1.0, "top_k": 0, "seed": 3}
"""Random words to the end of the context. By chance one answer in five would end before; this seed draws no end."""
ASK = "What model are you?"
HURRIED = httpx.Timeout(60, read=0.05)
TURNS = [{"role": "user", "content": ASK}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("ollama") / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as made:
        yield made


def test_generate_streamed_equals_generate_whole(client: ollama.Client) -> None:
    whole = client.generate("guide", ASK, options=SEEDED)
    parts = list(client.generate("guide", ASK, options=SEEDED, stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response != ""
    assert (parts[-1].done, parts[-1].done_reason) == (True, whole.done_reason)
    assert parts[-1].eval_count == whole.eval_count
    assert parts[0].total_duration is None
    assert parts[-1].total_duration


def test_chat_streamed_equals_chat_whole(client: ollama.Client) -> None:
    whole = client.chat("guide", TURNS, options=SEEDED)
    parts = list(client.chat("guide", TURNS, options=SEEDED, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content != ""
    assert whole.message.role == "assistant"
    assert whole.model == "guide:latest"


def test_a_conversation_goes_on_from_its_context(client: ollama.Client) -> None:
    first = client.generate("guide", ASK, options=SEEDED)
    assert first.context
    second = client.generate("guide", "And then?", context=first.context, options=SEEDED)
    assert second.context
    assert list(second.context[: len(first.context)]) == list(first.context)
    assert (second.prompt_eval_count or 0) > len(first.context)


def test_a_schema_holds_the_answer(client: ollama.Client) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    answer = client.chat("guide", TURNS, format=schema, options={"seed": 1, "num_predict": 60})
    assert list(json.loads(answer.message.content or "")) == ["ok"]


def test_json_mode_begins_an_object(client: ollama.Client) -> None:
    answer = client.generate("guide", ASK, format="json", options=SEEDED)
    assert (answer.response or "").startswith("{")


def test_list_show_and_ps(client: ollama.Client) -> None:
    listed = client.list().models[0]
    assert (listed.model, bool(listed.modified_at), (listed.size or 0) > 0) == ("guide:latest", True, True)
    shown = client.show("guide")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo
    assert shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"] == 1024
    assert [model.model for model in client.ps().models] == ["guide:latest"]


def test_an_empty_prompt_preloads_and_keep_alive_0_unloads(client: ollama.Client) -> None:
    assert client.generate("guide", keep_alive="10m").done_reason == "load"
    assert client.generate("guide", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate("guide", keep_alive="10m").done_reason == "load"
    assert [model.model for model in client.ps().models] == ["guide:latest"]


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client: client.chat("nope", TURNS), 404),
        (lambda client: list(client.chat("nope", TURNS, stream=True)), 404),
        (lambda client: client.generate("guide", ASK, images=[b"png"]), 422),
        (lambda client: client.pull("llama3"), 422),
        (lambda client: list(client.pull("llama3", stream=True)), 422),
        (lambda client: client.delete("guide"), 409),
        (lambda client: client.embed("nope", "a"), 404),
    ],
    ids=["unknown model", "unknown model, streamed", "images", "pull", "pull, streamed", "delete", "embed"],
)
def test_errors_arrive_as_the_packages_own(client: ollama.Client, call: Any, status: int) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        call(client)
    assert caught.value.status_code == status
    assert caught.value.error
    assert "{" not in caught.value.error


def test_leaving_a_stream_cancels_and_is_recorded(server: Server, client: ollama.Client) -> None:
    def leave() -> str | None:
        parts = client.generate("guide", "Tell me a story.", options=ENDLESS, stream=True)
        said = next(iter(parts)).response
        parts.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        return said

    said, record = left_midway(leave, "ollama", server.url)
    assert record["response"].startswith(said)


async def test_the_async_client_streams_and_answers(server: Server) -> None:
    async with ollama.AsyncClient(host=server.url) as client:
        whole = await client.chat("guide", TURNS, options=SEEDED)
        parts = [part async for part in await client.chat("guide", TURNS, options=SEEDED, stream=True)]
        with pytest.raises(ollama.ResponseError):
            await client.generate("nope", ASK)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def test_a_timeout_of_the_client_is_a_cancelled_call(server: Server) -> None:
    def leave() -> None:
        with suppress(httpx.ReadTimeout), ollama.Client(host=server.url, timeout=HURRIED) as client:
            client.generate("guide", "Tell me a story about a whole.", options=ENDLESS)

    _, record = left_midway(leave, "ollama", server.url, mode="full")
    assert record["response"] == ""


def test_the_record_lists_what_was_ignored(server: Server, client: ollama.Client, tmp_path: Path) -> None:
    client.generate("guide", "once", keep_alive="5m", options={"num_gpu": 1, "num_predict": 1})
    record = httpx2.get(f"{server.url}/vault/records", params={"query": "once"}, timeout=PATIENCE).json()["records"][0]
    detail = httpx2.get(f"{server.url}/vault/records/{record['id']}", timeout=PATIENCE).json()
    assert detail["ignored"] == ["options.num_gpu"]


def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: where
    """
    return f"sunny in {city}"


def test_a_function_can_be_offered_and_its_result_is_answered(client: ollama.Client) -> None:
    called: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "weather", "arguments": {}}}],
    }
    turns: list[Any] = [*TURNS, called, {"role": "tool", "content": weather("Bern"), "tool_name": "weather"}]
    answer = client.chat("guide", turns, tools=[weather], options=SEEDED)
    plain = client.chat("guide", TURNS, options=SEEDED)
    assert answer.message.content or answer.message.tool_calls
    assert (answer.prompt_eval_count or 0) > (plain.prompt_eval_count or 0)


def test_a_form_beside_tools_holds_the_words(client: ollama.Client) -> None:
    form: dict[str, Any] = {"enum": ["yes", "no"]}
    message = client.chat("guide", TURNS, tools=[weather], format=form, options={"seed": 7}).message
    assert message.tool_calls or json.loads(message.content or "") in ("yes", "no")


def test_what_a_client_got_can_be_computed_again(server: Server, client: ollama.Client) -> None:
    first = client.generate("guide", ASK, options={"num_predict": 8})
    client.generate("guide", "Replay me.", context=first.context, format="json", options={"num_predict": 20})
    record = httpx2.get(f"{server.url}/vault/records", params={"query": "replay"}, timeout=PATIENCE).json()["records"][
        0
    ]
    assert (
        httpx2.post(f"{server.url}/vault/records/{record['id']}/replay", timeout=PATIENCE).json()["verdict"] == "MATCH"
    )
