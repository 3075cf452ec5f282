"""Records a few chats with their rendering, token ids and greedy answers, for tests that run without torch.

python training/guide/golden.py src/minivault/guide tests/guide/golden.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "What model are you?"}],
    [{"role": "user", "content": "How do I change the port?"}],
    [{"role": "user", "content": "hi"}],
    [{"role": "user", "content": "What is 47 + 38?"}],
    [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "where are my prompts stored"}],
    [
        {"role": "user", "content": "How do I start the server?"},
        {"role": "assistant", "content": "Run `minivault serve`."},
        {"role": "user", "content": "And how do I stop it?"},
    ],
]


def record(folder: Path) -> dict[str, Any]:
    """The golden data of an exported guide."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    chats = []
    for messages in CHATS:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        prompt = torch.tensor([ids])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            max_new_tokens=200,
        )
        answer_ids = out[0, len(ids) :].tolist()
        answer = tokenizer.decode(answer_ids, skip_special_tokens=True)
        chats.append(
            {"messages": messages, "rendered": rendered, "ids": ids, "answer_ids": answer_ids, "answer": answer}
        )
    return {"chats": chats}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    text = json.dumps(record(options.folder), indent=1, ensure_ascii=False)
    options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
