"""Texts to be embedded: in which thread they are read."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from minivault.access.caller import Caller
from minivault.embedding import EmbeddingRequest
from minivault.models.prompt import LONG_TEXT
from minivault.service.texts import PreparedTexts, prepared_texts
from tests.fakes import ByteTokenizer, FakeLease, FakeModel, FakeModels, ScriptedEngine


class WatchedTokenizer(ByteTokenizer):
    def __init__(self) -> None:
        self.threads: set[str] = set()

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        self.threads.add(threading.current_thread().name)
        return super().encode(text, add_special_tokens)

    def decoder(self) -> Any:
        self.threads.add(threading.current_thread().name)
        return super().decoder()


async def read(request: EmbeddingRequest) -> tuple[PreparedTexts, set[str]]:
    tokenizer = WatchedTokenizer()
    model: Any = FakeModel(ScriptedEngine(), tokenizer=tokenizer)
    known = SimpleNamespace(width=4, max_tokens=LONG_TEXT, pooling_digest="sha256:03")
    model.embedder = SimpleNamespace(embedding=known)
    lease: Any = FakeLease(FakeModels(model), model)
    return await prepared_texts(request, Caller("10.0.0.1"), lease, 0), tokenizer.threads


@pytest.mark.parametrize(
    "request_",
    [
        EmbeddingRequest(texts=("x" * (LONG_TEXT - 1),)),
        EmbeddingRequest(texts=("x",) * 999),
        EmbeddingRequest(token_ids=((65,) * LONG_TEXT,)),
        EmbeddingRequest(token_ids=((65,),) * 999),
    ],
    ids=["a text", "many texts", "many tokens", "many texts of tokens"],
)
async def test_what_is_long_in_any_way_leaves_the_event_loop(request_: EmbeddingRequest) -> None:
    prepared, threads = await read(request_)
    assert len(prepared.texts) == request_.count
    assert {name.partition("_")[0] for name in threads} == {"minivault-prompt"}


async def test_what_is_short_does_not() -> None:
    for request in (EmbeddingRequest(texts=("ab", "c")), EmbeddingRequest(token_ids=((97, 98), (99,)))):
        prepared, threads = await read(request)
        assert prepared.prompt_text == '["ab", "c"]'
        assert prepared.extra_parameters["embedding"]["truncated"] == 0
        assert threads == {threading.current_thread().name}
