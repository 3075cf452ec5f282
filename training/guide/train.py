"""Makes the guide: corpus -> tokenizer -> training -> evaluation -> export, in one command.

    python training/guide/train.py --minutes 60 --output src/minivault/guide

Training runs in several one-threaded processes that share the parameters and average their gradients: on a busy
machine that is much faster than one process with several threads. Knows nothing of how the guide is served.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed
from export import export_tokenizer, export_weights, load_weights
from model import Guide, GuideShape
from tokenizers import Tokenizer
from tokens import train_tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from batches import Batch, long_batches, short_batches

LONG_EVERY = 12
MATRIX_RATE, OTHER_RATE = 3e-3, 3e-3
DECAY_FROM = 0.35
# Sums need more practice than sentences: from here on, so large a share of the samples is nothing else.
SUMS_FROM = 0.75


@dataclass(frozen=True)
class Plan:
    """What to run: for a number of steps, or for minutes when `steps` is 0."""

    steps: int
    minutes: float
    processes: int
    rows: int
    seed: int
    output: Path
    checkpoint_minutes: float
    resume: Path | None
    resume_at: float
    warm_up: int
    sums: float
    fresh: float


def learning_rate(step: int, progress: float, warm_up: int) -> float:
    """Share of the full rate: warm-up, a plateau, then a straight line down to nearly zero."""
    warm = min(1.0, (step + 1) / warm_up)
    return warm * min(1.0, (1.02 - progress) / (1.0 - DECAY_FROM))


class SharedOptimiser:
    """Muon for matrices and AdamW for the rest; each process updates its share of the shared parameters."""

    def __init__(self, guide: Guide, rank: int, processes: int) -> None:
        self.parameters = list(guide.parameters())
        named = list(guide.named_parameters())
        matrices = [p for name, p in named if p.dim() == 2 and not name.startswith("embed")]
        others = [p for name, p in named if p.dim() != 2 or name.startswith("embed")]
        mine = matrices[rank::processes]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(mine, lr=MATRIX_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        ]
        if rank == processes - 1:
            self.optimisers.append(torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0))
        self.full_rates = [MATRIX_RATE, OTHER_RATE]

    def step(self, share: float) -> None:
        for optimiser, rate in zip(self.optimisers, self.full_rates, strict=False):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.step()


def loss_sum(guide: Guide, forward: torch.nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Summed loss over the learnt ids of a batch, and how many there are."""
    targets = batch.learnt[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = forward(batch.ids, batch.sample)
        logits = guide.logits(hidden[:, :-1][targets])
    return cross_entropy(logits.float(), batch.ids[:, 1:][targets], reduction="sum"), int(targets.sum())


def work(rank: int, plan: Plan, guide: Guide, tokenizer_json: str, port: int) -> None:
    """One training process. The parameters are shared memory; only gradients travel."""
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed + rank)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=plan.processes)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    seed = plan.seed * 1000 + rank
    short = short_batches(tokenizer, seed, plan.rows, fresh=plan.fresh)
    practice = short_batches(tokenizer, seed + 500, plan.rows, plan.sums, plan.fresh)
    long = long_batches(tokenizer, seed, max(1, plan.rows // 4))
    optimiser = SharedOptimiser(guide, rank, plan.processes)
    forward = torch.compile(guide, dynamic=False)
    sizes = [parameter.numel() for parameter in guide.parameters()]
    # Gradients of all parameters, then: loss sum, learnt ids, tokens, progress (from process 0 alone).
    flat = torch.zeros(sum(sizes) + 4)
    step, progress, seen, started, saved = 0, plan.resume_at, 0, time.monotonic(), time.monotonic()
    recent = 0.0
    while progress < 1.0:
        usual = practice if progress >= SUMS_FROM else short
        batch = next(long if step % LONG_EVERY == LONG_EVERY - 1 else usual)
        for parameter in guide.parameters():
            parameter.grad = None
        loss, count = loss_sum(guide, forward, batch)
        loss.backward()
        if step == 1:
            started = time.monotonic()
        elapsed = (time.monotonic() - started) / 60
        done = (step + 1) / plan.steps if plan.steps else elapsed / plan.minutes
        own = plan.resume_at + (1.0 - plan.resume_at) * done
        tail = torch.tensor([loss.item(), float(count), float(batch.tokens), own if rank == 0 else 0.0])
        torch.cat([*[p.grad.reshape(-1) for p in guide.parameters() if p.grad is not None], tail], out=flat)
        torch.distributed.all_reduce(flat)
        total, counted, tokens, progress = flat[-4:].tolist()
        flat[:-4] /= counted
        norm = float(flat[:-4].norm())
        flat[:-4] *= min(1.0, 1.0 / (norm + 1e-6))
        for parameter, gradient in zip(guide.parameters(), flat[:-4].split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        optimiser.step(learning_rate(step, progress, plan.warm_up))
        torch.distributed.barrier()
        step, seen = step + 1, seen + int(tokens)
        recent = total / counted if recent == 0.0 else 0.97 * recent + 0.03 * total / counted
        if rank == 0 and (step <= 5 or step % 20 == 0):
            now = time.monotonic()
            report = {
                "step": step,
                "progress": round(progress, 4),
                "loss": round(recent, 4),
                "norm": round(norm, 3),
                "tokens": seen,
                "minutes": round(elapsed, 2),
                "tokens_per_second": round(seen / max(1e-9, now - started)),
            }
            print(json.dumps(report), flush=True)
            if now - saved > plan.checkpoint_minutes * 60:
                export_weights(plan.output, guide)
                saved = now
    if rank == 0:
        export_weights(plan.output, guide)
        seconds = time.monotonic() - started
        summary = {
            "steps": step,
            "tokens": seen,
            "minutes": round(seconds / 60, 2),
            "tokens_per_second": round(seen / seconds),
            "loss": round(recent, 4),
        }
        print(json.dumps(summary), flush=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def arguments() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=0, help="train for this many steps instead of for minutes")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=int, default=12, help="rows of 256 tokens in each process and step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("build/guide"))
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)
    parser.add_argument("--resume", type=Path, help="go on from the weights and the tokenizer of an exported folder")
    parser.add_argument("--resume-at", type=float, default=0.0, help="share of the training that lies behind it")
    parser.add_argument("--warm-up", type=int, default=60, help="steps until the full rate")
    parser.add_argument("--sums", type=float, default=0.4, help="share of samples that are sums, in the last quarter")
    parser.add_argument("--fresh", type=float, default=0.0, help="share of samples about what is new: corpus.fresh")
    return Plan(**vars(parser.parse_args()))


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer that the folder's weights were trained with: another corpus gives another one."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def main() -> None:
    plan = arguments()
    shape = GuideShape()
    tokenizer = tokenizer_of(plan.resume) if plan.resume else train_tokenizer(shape.vocab_size)
    if tokenizer.get_vocab_size() != shape.vocab_size:
        raise SystemExit(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {shape.vocab_size}")
    torch.manual_seed(plan.seed)
    guide = Guide(shape)
    if plan.resume:
        load_weights(plan.resume, guide)
    guide.share_memory()
    export_tokenizer(plan.output, tokenizer, shape)
    export_weights(plan.output, guide)
    print(json.dumps({"parameters": guide.parameter_count()}), flush=True)
    torch.multiprocessing.spawn(work, (plan, guide, tokenizer.to_str(), free_port()), nprocs=plan.processes)
    if os.environ.get("GUIDE_SKIP_EVALUATION") is None:
        from evaluate import evaluate_folder

        evaluate_folder(plan.output)


if __name__ == "__main__":
    main()
