"""The clients of others with an API key of this server, and without: each gives its own kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import ollama
import openai
import pytest

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from tests.cli.process import RunningServer, serving

QUESTION = "What model are you?"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("clients")
    return folder, KeyStore.in_folder(folder).create("team", KeyTerms(tokens="100000/day")).text


@pytest.fixture(scope="module")
def server(key: tuple[Path, str]) -> Iterator[RunningServer]:
    with serving(key[0]) as running:
        yield running


def test_openai(server: RunningServer, key: tuple[Path, str]) -> None:
    def ask(shown: str) -> str | None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=shown, max_retries=0) as client:
            answer = client.chat.completions.with_raw_response.create(
                model="guide", messages=[{"role": "user", "content": QUESTION}], max_tokens=8
            )
            return answer.headers.get("x-ratelimit-limit-tokens")

    assert ask(key[1]) == "100000"
    with pytest.raises(openai.AuthenticationError):
        ask("mv_wrong")


def test_anthropic(server: RunningServer, key: tuple[Path, str]) -> None:
    def ask(shown: str) -> int:
        with anthropic.Anthropic(base_url=server.url, api_key=shown, max_retries=0) as client:
            answer = client.messages.create(
                model="guide", max_tokens=8, messages=[{"role": "user", "content": QUESTION}]
            )
            return answer.usage.output_tokens

    assert ask(key[1]) > 0
    with pytest.raises(anthropic.AuthenticationError):
        ask("mv_wrong")


def test_ollama(server: RunningServer, key: tuple[Path, str]) -> None:
    with ollama.Client(server.url, headers={"Authorization": f"Bearer {key[1]}"}) as client:
        assert client.generate("guide", QUESTION, options={"num_predict": 8}).done
    with ollama.Client(server.url) as client, pytest.raises(ollama.ResponseError) as refused:
        client.generate("guide", QUESTION)
    assert refused.value.status_code == 401
