"""Tokenizers and the embedded model's template do what Transformers does with the same folders."""

# mypy: disable-error-code="import-not-found"
# why: Transformers lives in an environment of its own, where types are checked without it

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import minivault
from minivault.generation import Message
from minivault.models.chat_template import ChatTemplate
from minivault.models.tokenizer import Tokenizer
from tests.oracle.golden import DATA

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
        reason="Transformers is not installed: its tokenizers cannot be compared",
    ),
    pytest.mark.filterwarnings("ignore"),  # why: theirs to fix, and they differ by version
]
GUIDE = Path(minivault.__file__).parent / "guide"
FOLDERS = [DATA / "llama-gqa", DATA / "llama-tied-bias", GUIDE]
TEXTS = [
    "Hello, how do I start the server?",
    "  two  spaces, a tab\tand\n\nlines ",
    "née Grüße 日本語 🐕‍🦺",
    "MINIVAULT_PORT=9000 curl -X POST localhost:8000/generate -d '{\"a\": 1}'",
    "",
]


def theirs(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tokens_and_text_are_those_of_transformers(folder: Path) -> None:
    ours, oracle = Tokenizer.load(folder), theirs(folder)
    for text in TEXTS:
        for special in (True, False):
            assert ours.encode(text, add_special_tokens=special) == oracle.encode(text, add_special_tokens=special)
        prompt = ours.encode("Say:", add_special_tokens=True)
        answer = ours.encode(text, add_special_tokens=False)
        whole = oracle.decode(prompt + answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        before = oracle.decode(prompt, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert before + ours.decode(answer) == whole


def test_the_embedded_template_renders_as_transformers_does() -> None:
    tokenizer = Tokenizer.load(GUIDE)
    template = ChatTemplate.load(GUIDE, tokenizer.special_tokens)
    assert template is not None
    for turns in (
        [Message("user", "Hi")],
        [Message("system", "Be brief."), Message("user", " Hi "), Message("assistant", "Yes?"), Message("user", "é")],
    ):
        messages = [{"role": message.role, "content": message.content} for message in turns]
        expected = theirs(GUIDE).apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert template.render(turns) == expected
