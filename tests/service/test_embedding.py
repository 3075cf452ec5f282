"""Embeddings through the real parts: tiny encoder, native engine, vault, and the surfaces over them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from minivault.access.caller import Caller
from minivault.api.app import create_app
from minivault.embedding import EmbeddingRequest
from minivault.engine.embedding import EmbeddingInfo
from minivault.errors import ContextTooLong
from minivault.models.catalog import Catalog
from minivault.service import ReplayVerdict, Service
from minivault.service.opening import open_service
from minivault.service.replay_vectors import why_vectors_not_comparable
from minivault.settings import Settings
from minivault.vault.reader import Reader
from minivault.vault.record import Pin
from tests.encoder_folder import LONGEST, WIDTH, encoder_folder

CALLER = Caller("10.0.0.1")
LONG = "a " * 100


@dataclass(frozen=True)
class Open:
    service: Service
    settings: Settings

    @asynccontextmanager
    async def http(self) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(self.settings, service=self.service)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            yield client

    async def post(self, path: str, body: Any) -> httpx2.Response:
        async with self.http() as client:
            return await client.post(path, json=body)

    def reader(self) -> Reader:
        return Reader.open(self.settings.vault_path)


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    settings = Settings(data_dir=tmp_path / "data", model="tiny", threads=1, rate_limit="")
    Catalog(settings.models_dir).import_folder(encoder_folder(tmp_path / "folder"), "tiny")
    async with open_service(settings) as service:
        yield Open(service, settings)


def unit(values: Any) -> bool:
    return abs(float(np.linalg.norm(np.asarray(values))) - 1) < 1e-6


async def test_texts_come_back_as_vectors_and_are_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        asked = EmbeddingRequest(texts=("hello world", "cats"), request_id="one")
        embedded = await parts.service.embed(asked, CALLER)
        detail = parts.reader().get("one")
    assert embedded is not None
    assert [len(vector) for vector in embedded.vectors] == [4 * WIDTH, 4 * WIDTH]
    assert embedded.prompt_tokens == 4 + 4  # [CLS] hello world [SEP], [CLS] cat ##s [SEP]
    assert json.loads(detail.call.prompt or "") == ["hello world", "cats"]
    assert json.loads(detail.call.response or "")["digest"] == embedded.digest
    assert detail.intent["parameters"]["embedding"]["token_counts"] == [4, 4]
    assert (detail.call.prompt_tokens, detail.call.completion_tokens) == (8, 0)
    assert detail.intent["pin"]["arithmetic"] == "encoder-int8-g32-v1"


async def test_a_replay_makes_the_same_vectors_and_is_itself_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        await parts.service.embed(EmbeddingRequest(texts=("hello", LONG), truncate=True, request_id="one"), CALLER)
        found = await parts.service.replay("one", CALLER)
        assert found.record is not None
        replayed = parts.reader().get(found.record.index)
    assert (found.verdict, found.compared_tokens) == (ReplayVerdict.MATCH, 3 + LONGEST)
    assert replayed.call.surface == "replay"


async def test_a_text_that_the_engine_here_cannot_hold_is_not_comparable(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        await parts.service.embed(EmbeddingRequest(texts=("hello",), request_id="one"), CALLER)
        detail = parts.reader().get("one")
    pin = Pin(**detail.intent["pin"])
    assert why_vectors_not_comparable(detail, pin, EmbeddingInfo(WIDTH, 3, True, "")) is None
    reason = why_vectors_not_comparable(detail, pin, EmbeddingInfo(WIDTH, 2, True, ""))
    assert reason == "a text of it does not fit the KV cache here: raise kv_cache_memory"


async def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        with pytest.raises(ContextTooLong, match=f"input.1 has 102 tokens, and this model takes at most {LONGEST}"):
            await parts.service.embed(EmbeddingRequest(texts=("a", LONG)), CALLER)
        assert parts.reader().stats()["calls"] == 0
        cut = await parts.service.embed(EmbeddingRequest(texts=(LONG,), truncate=True), CALLER)
    assert cut is not None
    assert cut.prompt_tokens == LONGEST


async def test_openai_takes_texts_and_tokens_and_gives_floats_or_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        text = await parts.post("/v1/embeddings", {"model": "tiny", "input": "hello world"})
        ids = await parts.post("/v1/embeddings", {"model": "tiny", "input": [2, 4, 5, 3]})
        lists = await parts.post("/v1/embeddings", {"input": [[2, 4, 5, 3]], "encoding_format": "base64"})
    floats = text.json()["data"][0]["embedding"]
    assert text.json()["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert unit(floats)
    assert ids.json()["data"][0]["embedding"] == floats
    raw = base64.b64decode(lists.json()["data"][0]["embedding"])
    assert np.frombuffer(raw, "<f4").tolist() == floats
    assert "minivault-record" in text.headers


async def test_fewer_dimensions_are_the_first_ones_at_length_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        whole = (await parts.post("/embed", {"input": "cat"})).json()
        few = (await parts.post("/embed", {"input": "cat", "dimensions": 8})).json()
    first = np.asarray(whole["embeddings"][0][:8])
    assert few["dimensions"] == 8
    assert unit(few["embeddings"][0])
    assert np.allclose(few["embeddings"][0], first / np.linalg.norm(first), atol=1e-6)


async def test_ollamas_two_ways_of_asking_give_the_same_vector(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        new = (await parts.post("/api/embed", {"model": "tiny", "input": ["the cat", LONG]})).json()
        old = (await parts.post("/api/embeddings", {"model": "tiny", "prompt": "the cat"})).json()
        full = (await parts.post("/api/embed", {"model": "tiny:latest", "input": "the cat"})).json()
        ready = (await parts.post("/api/embed", {"model": "tiny", "input": ""})).json()
    assert (new["model"], full["model"]) == ("tiny:latest", "tiny:latest")
    assert new["prompt_eval_count"] == 4 + LONGEST
    assert old["embedding"] == new["embeddings"][0]
    assert ready == {"model": "tiny:latest", "embeddings": []}


async def test_ollamas_num_ctx_bounds_each_text_and_is_no_option_without_effect(tmp_path: Path) -> None:
    options = {"num_ctx": 3, "temperature": 0.5}
    async with opened(tmp_path) as parts:
        cut = await parts.post("/api/embed", {"model": "tiny", "input": ["hello world", "cat"], "options": options})
        old = await parts.post("/api/embeddings", {"model": "tiny", "prompt": "hello world", "options": options})
        kept = {"model": "tiny", "input": LONG, "options": {"num_ctx": 8192}}
        beyond = await parts.post("/api/embed", kept)
        asked = {"model": "tiny", "input": "hello world", "truncate": False, "options": {"num_ctx": 3}}
        refused = await parts.post("/api/embed", asked)
        detail = parts.reader().get(int(cut.headers["minivault-record"].partition(":")[0]))
    assert cut.json()["prompt_eval_count"] == 3 + 3  # [CLS] hello [SEP], [CLS] cat [SEP]
    assert old.json()["embedding"] == cut.json()["embeddings"][0]
    assert beyond.json()["prompt_eval_count"] == LONGEST
    assert (refused.status_code, refused.json()["error"]) == (
        422,
        "input.0 has 4 tokens, and the request takes at most 3",
    )
    assert detail.intent["ignored"] == ["options.temperature"]
    assert detail.intent["parameters"]["embedding"]["truncated"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/embeddings", {"input": LONG}, 422, f"input[0] has 102 tokens, and this model takes at most {LONGEST}"),
        ("/v1/embeddings", {"input": "a", "dimensions": WIDTH + 1}, 422, f"dimensions must be from 1 to {WIDTH}"),
        ("/v1/embeddings", {"input": []}, 422, "input"),
        ("/v1/embeddings", {"input": ""}, 422, "input"),
        ("/v1/embeddings", {"input": [1, 211]}, 422, "token ids must lie in 0 to 210"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 422, "encoding_format"),
        ("/v1/embeddings", {"input": ["a"] * 2049}, 422, "input"),
        ("/v1/embeddings", {"input": "a", "model": "nope"}, 404, "no model of this name"),
        ("/embed", {"input": "a", "seed": 1}, 422, "seed: is not a field"),
        ("/api/embed", {"model": "tiny", "input": LONG, "truncate": False}, 422, "at most 40"),
        ("/generate", {"prompt": "hi"}, 422, "makes embeddings and answers no prompts"),
    ],
)
async def test_what_cannot_be_embedded_is_told_by_field_and_bound(
    tmp_path: Path, path: str, body: Any, status: int, said: str
) -> None:
    async with opened(tmp_path) as parts:
        answer = await parts.post(path, body)
        recorded = parts.reader().stats()["calls"]
    error = answer.json()["error"]
    assert answer.status_code == status
    assert said in (error if isinstance(error, str) else error["message"])
    assert recorded == 0


async def test_the_listing_says_what_the_model_is_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        listed = await parts.service.list_models()
    assert [entry["kind"] for entry in listed if entry["name"] == "tiny"] == ["embedding"]
