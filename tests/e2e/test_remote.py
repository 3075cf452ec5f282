"""MiniVault in front of real servers, a second MiniVault and llama.cpp's own, asked with clients that people use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import ollama
import openai
import pytest

from minivault.models.catalog import Catalog
from minivault.models.remote_config import RemoteConfig
from minivault.models.remote_entry import add_remote
from tests.clients.records import left_midway
from tests.e2e.server import PATIENCE, Server, serving

ROOT = Path(__file__).parent.parent.parent
LLAMACPP = ROOT / ".venv-bench-xllamacpp" / "bin" / "python"
TURNS: Any = [{"role": "user", "content": "What model are you?"}]
SEEDED: Any = {"model": "far", "messages": TURNS, "seed": 7, "max_tokens": 24}
TOOL: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


@contextmanager
def in_front_of(folder: Path, *urls: str, upstream_model: str = "guide", **config: Any) -> Iterator[Server]:
    """A server whose model ``far`` those servers run."""
    data_dir = folder / "front"
    add_remote(Catalog(data_dir / "models"), "far", RemoteConfig(urls, upstream_model, **config))
    with serving(data_dir, "--model", "far") as front:
        yield front


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("behind") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def front(behind: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with in_front_of(tmp_path_factory.mktemp("front"), f"{behind.url}/v1") as running:
        yield running


@contextmanager
def closing_all(*servers: Server) -> Iterator[tuple[Server, ...]]:
    """Servers that may be dead at the end."""
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()


def openai_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0)


def last_record(server: Server) -> Any:
    newest = httpx2.get(f"{server.url}/vault/records", params={"limit": 1}, timeout=PATIENCE).json()["records"][0]
    return httpx2.get(f"{server.url}/vault/records/{newest['id']}", timeout=PATIENCE).json()


# -- a second MiniVault


def test_the_answer_is_the_one_behind_byte_for_byte_whole_and_in_pieces(front: Server, behind: Server) -> None:
    asked = SEEDED | {"max_tokens": 200, "extra_body": {"ignore_eos": True}}  # long enough for several
    with openai_of(front) as here, openai_of(behind) as there:
        direct = there.chat.completions.create(**asked | {"model": "guide"})
        whole = here.chat.completions.create(**asked)
        chunks = list(here.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].message.content == direct.choices[0].message.content != ""
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage == direct.usage == chunks[-1].usage
    assert len([piece for piece in pieces if piece]) > 1


def test_the_record_has_the_words_and_the_counts_and_no_token_ids(front: Server) -> None:
    with openai_of(front) as client:
        answer = client.chat.completions.create(**SEEDED)
    record = last_record(front)
    assert record["response"] == answer.choices[0].message.content
    assert record["usage"] == answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"})
    assert (record["prompt_token_ids"], record["response_token_ids"]) == ([], [])
    assert (record["pin"]["engine"], record["pin"]["exact"]) == ("remote", False)


def test_a_replay_says_that_it_proves_nothing(front: Server) -> None:
    with openai_of(front) as client:
        client.chat.completions.create(**SEEDED)
    verdict = httpx2.post(
        f"{front.url}/vault/records/{last_record(front)['id']}/replay", json={}, timeout=PATIENCE
    ).json()
    assert verdict["verdict"] == "NOT COMPARABLE"


def test_log_probabilities_come_through(front: Server, behind: Server) -> None:
    asked = SEEDED | {"logprobs": True, "top_logprobs": 2}
    with openai_of(front) as here, openai_of(behind) as there:
        told = here.chat.completions.create(**asked).choices[0].logprobs
        direct = there.chat.completions.create(**asked | {"model": "guide"}).choices[0].logprobs
    assert told == direct


def test_an_answer_is_held_to_a_form_by_the_server_behind(front: Server) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    with openai_of(front) as client:
        answer = client.chat.completions.create(**SEEDED | {"max_tokens": 60, "response_format": form})
    assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)


def test_calls_of_tools_come_through(front: Server) -> None:
    with openai_of(front) as client:
        one = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
        asked = SEEDED | one | {"max_tokens": 200}
        choice = client.chat.completions.create(**asked).choices[0]
    assert (choice.finish_reason, choice.message.tool_calls[0].function.name) == ("tool_calls", "add")


def test_several_answers_to_one_request(front: Server, behind: Server) -> None:
    asked = SEEDED | {"n": 3, "temperature": 1.0}
    with openai_of(front) as here, openai_of(behind) as there:
        answers = [choice.message.content for choice in here.chat.completions.create(**asked).choices]
        direct = [
            choice.message.content for choice in there.chat.completions.create(**asked | {"model": "guide"}).choices
        ]
    assert answers == direct


def test_a_text_goes_on(front: Server, behind: Server) -> None:
    asked: Any = {"prompt": "MiniVault is", "max_tokens": 8, "seed": 3}
    with openai_of(front) as here, openai_of(behind) as there:
        assert (
            here.completions.create(model="far", **asked).choices[0].text
            == there.completions.create(model="guide", **asked).choices[0].text
        )


def test_ollamas_client(front: Server) -> None:
    with ollama.Client(front.url) as client:
        whole = client.chat("far", TURNS, options={"seed": 7, "num_predict": 24})
        parts = list(client.chat("far", TURNS, options={"seed": 7, "num_predict": 24}, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content != ""
    assert parts[-1].eval_count == whole.eval_count


def test_anthropics_client(front: Server) -> None:
    with (
        anthropic.Anthropic(base_url=front.url, api_key="none needed", max_retries=0) as client,
        client.messages.stream(model="far", max_tokens=24, messages=TURNS) as stream,
    ):
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text != ""  # type: ignore[union-attr]
    assert final.usage.input_tokens > 0


def test_the_native_surface(front: Server) -> None:
    body = {"model": "far", "prompt": "What model are you?", "seed": 7, "max_tokens": 24}
    whole = httpx2.post(f"{front.url}/generate", json=body, timeout=PATIENCE).json()
    plain = httpx2.post(f"{front.url}/generate-stream", json=body, timeout=PATIENCE).text
    assert plain == whole["response"] != ""


def test_who_hangs_up_in_front_is_cancelled_behind(front: Server, behind: Server) -> None:
    endless = {"model": "far", "messages": TURNS, "stream": True, "max_tokens": 900, "ignore_eos": True,
               "temperature": 10, "user": "x"}  # fmt: skip

    def leave() -> None:
        with httpx2.stream("POST", f"{front.url}/v1/chat/completions", json=endless, timeout=60) as answer:
            next(line for line in answer.iter_lines() if '"content": "' in line and '"content": ""' not in line)

    left_midway(leave, "openai", front.url, behind.url)


def test_the_models_and_the_metrics_name_the_engine(front: Server, behind: Server) -> None:
    listed = {entry["name"]: entry for entry in httpx2.get(f"{front.url}/models", timeout=PATIENCE).json()["models"]}
    assert (listed["far"]["engine"], listed["far"]["loaded"]) == ("remote", True)
    assert "far:latest" in [
        model["name"] for model in httpx2.get(f"{front.url}/api/tags", timeout=PATIENCE).json()["models"]
    ]
    assert httpx2.post(f"{front.url}/api/show", json={"model": "far"}, timeout=PATIENCE).status_code == 200
    address = behind.url.removeprefix("http://")
    assert (
        f'minivault_upstream_healthy{{model_name="far",upstream="{address}"}} 1.0'
        in httpx2.get(f"{front.url}/metrics", timeout=PATIENCE).text
    )


def test_a_server_that_dies_is_left_for_another_and_without_any_the_client_is_told_to_come_back(tmp_path: Path) -> None:
    with closing_all(Server(tmp_path / "one"), Server(tmp_path / "two")) as (one, two):
        urls = [f"{server.url}/v1" for server in (one, two)]
        with in_front_of(tmp_path, *urls, health_interval=0.2) as front, openai_of(front) as client:
            expected = client.chat.completions.create(**SEEDED).choices[0].message.content
            one.kill()
            answers = [client.chat.completions.create(**SEEDED).choices[0].message.content for _ in range(4)]
            assert answers == [expected] * 4
            two.kill()
            with pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(**SEEDED)
            assert refused.value.status_code == 503
            assert refused.value.response.headers["retry-after"]


# -- llama.cpp


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not LLAMACPP.exists():
        pytest.skip("xllamacpp is not installed: make bench sets it up in .venv-bench-xllamacpp")
    pytest.importorskip("gguf", reason="the gguf package, which writes its model, is not installed")
    from tests.models.gguf_writer import Kind, write_gguf

    guide = ROOT / "src" / "minivault" / "guide"
    template = json.loads((guide / "tokenizer_config.json").read_text()).get("chat_template")
    template = template or (guide / "chat_template.jinja").read_text()
    metadata = {"tokenizer.chat_template": template}
    file = write_gguf(guide, tmp_path_factory.mktemp("llamacpp") / "guide.gguf", Kind.F16, metadata=metadata)
    command = [str(LLAMACPP), str(Path(__file__).parent / "llamacpp_server.py"), str(file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture(scope="module")
def before_llamacpp(llamacpp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with in_front_of(tmp_path_factory.mktemp("llama"), f"{llamacpp}/v1") as running:
        yield running


def test_llamacpp_answers_behind_every_surface(before_llamacpp: Server, behind: Server) -> None:
    greedy = SEEDED | {"temperature": 0.0}
    with openai_of(before_llamacpp) as here, openai_of(behind) as there:
        answer = here.chat.completions.create(**greedy)
        chunks = list(here.chat.completions.create(**greedy, stream=True))
        own = there.chat.completions.create(**greedy | {"model": "guide"})
    said = answer.choices[0].message.content or ""
    assert said.startswith("I am")
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == said
    # The same weights and template, so the same prompt; the answers are each engine's own arithmetic.
    assert answer.usage.prompt_tokens == own.usage.prompt_tokens
    with ollama.Client(before_llamacpp.url) as client:
        assert client.chat("far", TURNS).message.content
    with anthropic.Anthropic(base_url=before_llamacpp.url, api_key="none needed", max_retries=0) as claude:
        assert claude.messages.create(model="far", max_tokens=24, messages=TURNS).usage.input_tokens > 0


def test_llamacpp_holds_an_answer_to_a_schema_and_tells_log_probabilities(before_llamacpp: Server) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    with openai_of(before_llamacpp) as client:
        held = client.chat.completions.create(**SEEDED | {"max_tokens": 60, "response_format": form})
        told = client.chat.completions.create(**SEEDED | {"logprobs": True, "top_logprobs": 3}).choices[0]
    assert isinstance(json.loads(held.choices[0].message.content or "")["n"], int)
    assert told.logprobs is not None
    assert "".join(one.token for one in told.logprobs.content or ()) == told.message.content
    assert len((told.logprobs.content or [])[0].top_logprobs) == 3


def test_llamacpp_stops_at_a_stop_string_and_is_cancelled(before_llamacpp: Server) -> None:
    with openai_of(before_llamacpp) as client:
        stopped = client.chat.completions.create(**SEEDED | {"temperature": 0.0, "stop": ["MiniVault"]})
        assert "MiniVault" not in (stopped.choices[0].message.content or "")
        endless = SEEDED | {"max_tokens": 900, "extra_body": {"ignore_eos": True}}

        def leave() -> None:
            with client.chat.completions.create(**endless, stream=True) as stream:
                next(iter(stream))

        left_midway(leave, "openai", before_llamacpp.url)


def test_the_command_adds_shows_asks_and_removes(behind: Server, tmp_path: Path) -> None:
    def minivault(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minivault.cli.main", *words, "--data-dir", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    added = minivault("models", "add-remote", "far", "--url", f"{behind.url}/v1", "--upstream-model", "guide")
    assert added.stdout == f"far: guide on {behind.url.removeprefix('http://')}\n", added.stderr
    said = minivault("generate", "What model are you?", "--local", "--model", "far")
    assert said.stdout.strip(), said.stderr
    assert minivault("models", "add-remote", "far", "--url", "http://x:1/v1").returncode != 0
    refused = minivault("models", "add-remote", "other", "--url", "http://u:secret@x:1/v1")
    assert (refused.returncode != 0, "secret" in refused.stderr) == (True, False)
    assert minivault("models", "rm", "far", "--yes").returncode == 0
    assert not (tmp_path / "models" / "far").exists()
