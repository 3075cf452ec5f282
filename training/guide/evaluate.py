"""Asks an exported guide the held-out questions and sums, and counts right answers by topic.

    python training/guide/evaluate.py src/minivault/guide

Loads the folder with `transformers`, as a stranger would. Knows nothing of how the guide was trained.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import arithmetic
import torch
from heldout import HELD_OUT
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


def evaluate_folder(folder: Path, int8: bool = False, show_wrong: bool = True) -> dict[str, Any]:
    """Right answers by topic, greedy and sampled; prints the wrong greedy ones."""
    asker = Asker(folder, int8)
    right: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    sampled: dict[str, int] = defaultdict(int)
    greedy_answers = asker.answers([item.question for item in HELD_OUT])
    for item, answer in zip(HELD_OUT, greedy_answers, strict=True):
        good = is_right(answer, item.must)
        asked[item.topic] += 1
        right[item.topic] += good
        if show_wrong and not good:
            print(f"WRONG [{item.topic}] {item.question!r} -> {answer!r}")
    for seed in SAMPLING_SEEDS:
        for item, answer in zip(HELD_OUT, asker.answers([item.question for item in HELD_OUT], seed), strict=True):
            sampled[item.topic] += is_right(answer, item.must)
    topics = list(dict.fromkeys(item.topic for item in HELD_OUT))
    held_out_right, held_out_sampled = sum(right[topic] for topic in topics), sum(sampled[topic] for topic in topics)
    sums = held_out_sums()
    for (topic, question, expected), answer in zip(
        sums, asker.answers([question for _, question, _ in sums]), strict=True
    ):
        asked[topic] += 1
        good = sum_is_right(answer, expected)
        right[topic] += good
        if show_wrong and not good:
            print(f"WRONG [{topic}] {question!r} -> {answer!r}")
    result = {
        "held_out_questions": len(HELD_OUT),
        "greedy_percent": round(100 * held_out_right / len(HELD_OUT), 1),
        "sampled_percent": round(100 * held_out_sampled / (len(HELD_OUT) * len(SAMPLING_SEEDS)), 1),
        "topics": {
            topic: {"asked": asked[topic], "right": right[topic]}
            | (
                {"sampled_percent": round(100 * sampled[topic] / (asked[topic] * len(SAMPLING_SEEDS)), 1)}
                if topic in topics
                else {}
            )
            for topic in asked
        },
    }
    print(json.dumps(result, indent=1))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--int8", action="store_true", help="imitate int8 arithmetic")
    options = parser.parse_args()
    evaluate_folder(options.folder, options.int8)


if __name__ == "__main__":
    main()
