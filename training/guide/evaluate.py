"""Asks an exported guide the held-out questions and sums, and counts right answers by topic.

    python training/guide/evaluate.py src/minivault/guide

Loads the folder with `transformers`, as a stranger would; with `--server URL --model NAME` it asks a running MiniVault
instead, which is much faster. Knows nothing of how the guide was trained.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Protocol

import arithmetic
import torch
from heldout import HELD_OUT, SINCE_0_2, HeldOut
from transformers import AutoModelForCausalLM, AutoTokenizer

SAMPLING_SEEDS = (1, 2, 3)
SUMS_EACH = 100
BATCH = 64


def held_out_sums() -> list[tuple[str, str, str]]:
    """(topic, question, expected number) for pairs that training never saw, the same ones every time."""
    rng = Random(99)
    sums = []
    for sign, name in (("+", "addition"), ("-", "subtraction"), ("x", "multiplication")):
        pairs = [(a, b) for a in range(10, 100) for b in range(10, 100) if arithmetic.is_held_out(a, sign, b)]
        for a, b in rng.sample(pairs, SUMS_EACH):
            frame = rng.choice(("What is {e}?", "How much is {e}", "{e}", "please calculate {e}"))
            sums.append(
                (f"{name} of held-out pairs", frame.format(e=f"{a} {sign} {b}"), str(arithmetic.result(a, sign, b)))
            )
    return sums


def _round_int8(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    scale = scale.clamp_min(1e-12) / 127
    return (values / scale).round().clamp(-127, 127) * scale


def _round_input(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    groups = inputs[0].unflatten(-1, (-1, 32))
    return (_round_int8(groups, groups.abs().amax(-1, keepdim=True)).flatten(-2),)


def round_to_int8(model: torch.nn.Module) -> None:
    """Imitate int8 arithmetic: weights with a scale for each output, inputs with a scale for each group of 32."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            with torch.no_grad():
                module.weight.copy_(_round_int8(module.weight, module.weight.abs().amax(1, keepdim=True)))
            module.register_forward_pre_hook(_round_input)


class Asks(Protocol):
    def answers(self, questions: Sequence[str], sample_seed: int | None = None) -> list[str]: ...


class ServerAsker:
    """Answers lists of questions through a running MiniVault."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def answers(self, questions: Sequence[str], sample_seed: int | None = None) -> list[str]:
        """As `Asker.answers`; the sampling settings are the model's own."""
        how = {"temperature": 0} if sample_seed is None else {"seed": sample_seed}

        def one(question: str) -> str:
            body = json.dumps({"model": self.model, "prompt": question, "max_tokens": 220, **how}).encode()
            head = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.url}/generate", body, head)  # noqa: S310  (the URL that was given)
            with urllib.request.urlopen(request) as reply:  # noqa: S310
                return str(json.load(reply)["response"])

        with ThreadPoolExecutor(32) as threads:
            return list(threads.map(one, questions))


class Asker:
    """Answers lists of questions with a checkpoint folder."""

    def __init__(self, folder: Path, int8: bool = False) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
        if int8:
            round_to_int8(self.model)

    def answers(self, questions: Sequence[str], sample_seed: int | None = None) -> list[str]:
        """Greedy answers, or answers with the folder's default sampling settings when a seed is given."""
        found: list[str] = []
        for start in range(0, len(questions), BATCH):
            chats = [[{"role": "user", "content": question}] for question in questions[start : start + BATCH]]
            texts = self.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
            inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            inputs.pop("token_type_ids", None)
            how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
            if sample_seed is not None:
                torch.manual_seed(sample_seed)
                how = {}
            with torch.inference_mode():
                out = self.model.generate(**inputs, max_new_tokens=220, **how)
            found += self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return found


def is_right(answer: str, must: Sequence[str]) -> bool:
    return all(re.search(pattern, answer, re.IGNORECASE | re.DOTALL) for pattern in must)


def sum_is_right(answer: str, expected: str) -> bool:
    numbers = re.findall(r"(?<![\d-])-?\d+|(?<= )-\d+", answer)
    return bool(numbers) and numbers[-1] == expected


def evaluate_folder(folder: Path, int8: bool = False) -> dict[str, Any]:
    """Right answers of a checkpoint folder; prints the wrong greedy ones."""
    return evaluate(Asker(folder, int8))


def evaluate(asker: Asks) -> dict[str, Any]:
    """Right answers in all and by topic, greedy and sampled, to old questions and new ones, and to sums."""
    result: dict[str, Any] = {"held_out": _questions(asker, HELD_OUT), "since_0.2": _questions(asker, SINCE_0_2)}
    sums = held_out_sums()
    right: dict[str, int] = defaultdict(int)
    for (topic, question, expected), answer in zip(sums, asker.answers([sum_[1] for sum_ in sums]), strict=True):
        good = sum_is_right(answer, expected)
        right[topic] += good
        if not good:
            print(f"WRONG [{topic}] {question!r} -> {answer!r}")
    result["sums"] = dict(right)
    print(json.dumps(result, indent=1))
    return result


def _questions(asker: Asks, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    questions = [item.question for item in held_out]
    greedy, sampled, asked = (dict.fromkeys((item.topic for item in held_out), 0) for _ in range(3))
    for item, answer in zip(held_out, asker.answers(questions), strict=True):
        good = is_right(answer, item.must)
        asked[item.topic] += 1
        greedy[item.topic] += good
        if not good:
            print(f"WRONG [{item.topic}] {item.question!r} -> {answer!r}")
    for seed in SAMPLING_SEEDS:
        for item, answer in zip(held_out, asker.answers(questions, seed), strict=True):
            sampled[item.topic] += is_right(answer, item.must)
    share = 100 / len(SAMPLING_SEEDS)
    return {
        "asked": len(questions),
        "right": sum(greedy.values()),
        "greedy_percent": round(100 * sum(greedy.values()) / len(questions), 1),
        "sampled_percent": round(share * sum(sampled.values()) / len(questions), 1),
        "topics": {
            topic: {"asked": asked[topic], "right": greedy[topic],
                    "sampled_percent": round(share * sampled[topic] / asked[topic], 1)}
            for topic in asked
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("src/minivault/guide"))
    parser.add_argument("--int8", action="store_true", help="imitate int8 arithmetic")
    parser.add_argument("--server", metavar="URL", help="ask a running MiniVault instead")
    parser.add_argument("--model", default="guide", help="the model to ask there")
    options = parser.parse_args()
    if options.server:
        evaluate(ServerAsker(options.server, options.model))
    else:
        evaluate_folder(options.folder, options.int8)


if __name__ == "__main__":
    main()
