"""Texts a second of an encoder: the native engine, and sentence-transformers where it is installed.

    python -m bench.embeddings FOLDER [--precision int8] [--threads 2] [--rounds 5]

The same texts go to each, in batches of 64; of several rounds the best counts. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

from minivault.engine.native.encoder_runner import NativeEncoderRunner
from minivault.engine.native.runner import RunnerOptions
from minivault.models.checkpoint import Checkpoint
from minivault.models.encoder import encoder_weights, read_encoder
from minivault.models.pooling import read_pooling
from minivault.models.tokenizer import Tokenizer

SENTENCES = (
    "A man is eating food.",
    "MiniVault keeps every prompt and every answer in a vault on your disk.",
    "What is the capital of France, and how many people live there?",
    "stock markets fell sharply on Monday after the central bank raised rates",
)
COUNT = 512
BATCH = 64


def best(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest round, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def native(folder: Path, texts: list[str], options: RunnerOptions) -> Callable[[], object]:
    """Tokenising and embedding, as a request has it."""
    arch = read_encoder(json.loads((folder / "config.json").read_text()))
    tokenizer = Tokenizer.load(folder)
    with Checkpoint.open(folder) as checkpoint:
        runner = NativeEncoderRunner.load(arch, encoder_weights(arch, checkpoint), read_pooling(folder), options)

    def work() -> None:
        for start in range(0, len(texts), BATCH):
            runner.encode([tokenizer.encode(text, add_special_tokens=True) for text in texts[start : start + BATCH]])

    return work


def sentence_transformers(folder: Path, texts: list[str], threads: int) -> Callable[[], object]:
    """PyTorch in 32-bit floats, as it comes."""
    import torch
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]  # why: a peer, not a part

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda: model.encode(texts, batch_size=BATCH, show_progress_bar=False)


def main() -> None:
    """Print one line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("int8", "f32"), default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    texts = [SENTENCES[place % len(SENTENCES)] for place in range(COUNT)]
    contenders = {
        f"minivault {asked.precision}": native(asked.folder, texts, RunnerOptions(asked.precision, asked.threads))
    }
    if importlib.util.find_spec("sentence_transformers") is not None:
        contenders["sentence-transformers"] = sentence_transformers(asked.folder, texts, asked.threads)
    for name, work in contenders.items():
        print(f"{name:28} {COUNT / best(asked.rounds, work):8.0f} texts/s")


if __name__ == "__main__":
    main()
