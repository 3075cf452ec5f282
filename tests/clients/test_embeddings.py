"""Embeddings through the ``openai`` and ``ollama`` packages, against ``minivault serve`` with a tiny encoder."""

from __future__ import annotations

from collections.abc import Iterator

import ollama
import openai
import pytest

from minivault.models.catalog import Catalog
from tests.e2e.server import Server, serving
from tests.encoder_folder import WIDTH, encoder_folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("embeddings")
    Catalog(folder / "data" / "models").import_folder(encoder_folder(folder / "folder"), "tiny")
    with serving(folder / "data", "--model", "tiny") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0) as made:
        yield made


def test_openai_asks_in_base64_by_itself_and_gets_the_same_numbers_as_floats(client: openai.OpenAI) -> None:
    texts = ["hello world", "a cat"]
    packed = client.embeddings.create(model="tiny", input=texts)
    plain = client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    assert [one.embedding for one in packed.data] == [one.embedding for one in plain.data]
    assert [len(one.embedding) for one in packed.data] == [WIDTH, WIDTH]
    assert packed.usage.total_tokens == 8


def test_openai_sends_tokens_and_dimensions(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input=[[2, 4, 5, 3], [2, 7, 3]], dimensions=16)
    assert [len(one.embedding) for one in answer.data] == [16, 16]


def test_openai_is_told_what_is_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="at most 40"):
        client.embeddings.create(model="tiny", input="a " * 100)


async def test_openais_async_client_embeds_many_at_once(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none needed") as client:
        answer = await client.embeddings.create(model="tiny", input=["the cat sat"] * 100)
    assert len({tuple(one.embedding) for one in answer.data}) == 1


def test_ollama_embeds_in_both_ways(server: Server) -> None:
    with ollama.Client(server.url) as client:
        new = client.embed("tiny", ["the cat", "a " * 100])
        old = client.embeddings("tiny", "the cat")
    assert list(old.embedding) == list(new.embeddings[0])
    assert len(new.embeddings[1]) == WIDTH
