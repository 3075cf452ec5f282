"""One question asked through every surface gets the same answer, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.server import serving

ASK = "What model are you?"
TURNS = [{"role": "user", "content": ASK}]
GREEDY = {"temperature": 0, "max_tokens": 40}


def test_every_surface_gives_the_same_answer(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server, httpx2.Client(base_url=server.url, timeout=60) as client:

        def ask(path: str, body: dict[str, Any]) -> Any:
            return client.post(path, json={"model": "guide", "stream": False, **body}).raise_for_status().json()

        options = {"temperature": 0, "num_predict": 40}
        answers = {
            "native": ask("/generate", {"prompt": ASK, **GREEDY})["response"],
            "openai": ask("/v1/chat/completions", {"messages": TURNS, **GREEDY})["choices"][0]["message"]["content"],
            "ollama": ask("/api/generate", {"prompt": ASK, "options": options})["response"],
            "ollama chat": ask("/api/chat", {"messages": TURNS, "options": options})["message"]["content"],
            "anthropic": ask("/v1/messages", {"messages": TURNS, **GREEDY})["content"][0]["text"],
        }
    assert len(set(answers.values())) == 1, answers
    assert answers["native"]
