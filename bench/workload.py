"""The work that every contender does, and how its speed is told from when tokens came. Standard library only.

A measurement is one process: it loads the model, gives a first token, warms up, and then runs one :class:`Task`.
Contenders differ in their :class:`Backend` alone. Knows nothing of any engine.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["decode", "prefill", "cached"]

LETTERS = range(2, 96)
"""Ids of the tokens ``!`` to ``~`` in the tokenizer of :mod:`bench.shapes`, one token a letter."""

_MARK = "measured: "


@dataclass(frozen=True)
class Task:
    """What to measure.

    ``decode``: ``streams`` prompts started together. ``prefill``: one prompt, one token. ``cached``: one prompt that
    was answered just before.
    """

    checkpoint: str
    """The Hugging Face folder, or what was made from it for this contender."""
    kind: Kind
    streams: int
    prompt_tokens: int
    new_tokens: int
    threads: int
    seed: int = 1
    options: tuple[tuple[str, str], ...] = ()
    """What this contender alone understands."""

    @property
    def tokens_per_stream(self) -> int:
        return self.prompt_tokens + self.new_tokens

    def option(self, name: str, default: str = "") -> str:
        return dict(self.options).get(name, default)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        fields = json.loads(text)
        return cls(**fields | {"options": tuple((name, value) for name, value in fields["options"])})


Arrivals = Sequence[Sequence[float]]
"""For each stream, when each of its tokens came, in order."""


class Backend(Protocol):
    """A loaded model."""

    def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Arrivals:
        """Start all prompts together; greedy, past any end of sequence. Times are of ``time.perf_counter``."""

    def facts(self) -> dict[str, Any]:
        """What is to be told beside the figures."""

    def close(self) -> None: ...


def make_prompts(count: int, tokens: int, seed: int) -> list[list[int]]:
    """Prompts of random letters, no two with a common beginning that a cache could use."""
    numbers = random.Random(f"{seed}/{tokens}")  # noqa: S311 - not a secret
    return [numbers.choices(LETTERS, k=tokens) for _ in range(count)]


def prompt_text(prompt: Sequence[int]) -> str:
    return "".join(chr(token - LETTERS[0] + ord("!")) for token in prompt)


def decode_rate(arrivals: Arrivals) -> float | None:
    """Tokens per second over all streams while all of them decode; ``None`` where they hardly ever did.

    The window opens when the last stream has its first token and closes when the first stream has its last one. In it
    each stream counts from its own first to its own last token, so that tokens of one step that reach us one after
    the other are not counted for the time before.
    """
    opened, closed = max(times[0] for times in arrivals), min(times[-1] for times in arrivals)
    rates = []
    for times in arrivals:
        inside = [when for when in times if opened <= when <= closed]
        if len(inside) < max(4, len(times) // 4):
            return None
        rates.append((len(inside) - 1) / (inside[-1] - inside[0]))
    return sum(rates)


def overall_rate(started: float, arrivals: Arrivals) -> float:
    """Generated tokens of all streams over the time from the start to the last of them, prompts included."""
    return sum(map(len, arrivals)) / (max(times[-1] for times in arrivals) - started)


def process_age() -> float:
    """Seconds since this process was started, to a hundredth; interpreter and imports included."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / 100


def peak_memory(process: str = "self") -> int:
    """Most bytes that a process had resident, mapped files included."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(task: Task, load: Callable[[Task], Backend]) -> dict[str, Any]:
    """Do ``task`` on the backend that ``load`` makes, and say what it took."""
    backend = load(task)
    try:
        _checked(backend.run(make_prompts(1, 64, task.seed + 1000), 1), 1)
        result: dict[str, Any] = {"first_token_seconds": process_age()}
        result |= {"decode": _decode, "prefill": _prefill, "cached": _cached}[task.kind](task, backend)
        return result | {"peak_bytes": peak_memory()} | backend.facts()
    finally:
        backend.close()


def _decode(task: Task, backend: Backend) -> dict[str, Any]:
    backend.run(make_prompts(task.streams, 16, task.seed + 2000), 4)
    prompts = make_prompts(task.streams, task.prompt_tokens, task.seed)
    started = time.perf_counter()
    arrivals = _checked(backend.run(prompts, task.new_tokens), task.new_tokens)
    return {"decode": decode_rate(arrivals), "overall": overall_rate(started, arrivals)}


def _prefill(task: Task, backend: Backend) -> dict[str, Any]:
    """The median of three prompts."""
    rates = []
    for prompt in make_prompts(3, task.prompt_tokens, task.seed):
        started = time.perf_counter()
        arrivals = _checked(backend.run([prompt], 1), 1)
        rates.append(task.prompt_tokens / (arrivals[0][0] - started))
    return {"prefill": statistics.median(rates)}


def _cached(task: Task, backend: Backend) -> dict[str, Any]:
    """Time to the first token of a prompt that is in the prefix cache, in decode steps; the median of five."""
    prompts = make_prompts(1, task.prompt_tokens, task.seed)
    _checked(backend.run(prompts, 1), 1)
    ratios = []
    for _ in range(5):
        started = time.perf_counter()
        (times,) = _checked(backend.run(prompts, 8), 8)
        step = statistics.median(after - before for before, after in pairwise(times))
        ratios.append((times[0] - started) / step)
    return {"cached": statistics.median(ratios)}


def _checked(arrivals: Arrivals, new_tokens: int) -> Arrivals:
    counts = sorted({len(times) for times in arrivals})
    if counts != [new_tokens]:
        raise RuntimeError(f"each stream should have given {new_tokens} tokens, but gave {counts}")
    return arrivals


def main(load: Callable[[Task], Backend]) -> None:
    """A measuring process: the task is its argument, and the result the last thing it prints."""
    result = measure(Task.from_json(sys.argv[1]), load)
    print(_MARK + json.dumps(result), flush=True)


def read_result(output: str) -> dict[str, Any] | None:
    """The result in what a measuring process printed, if there is one."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    found: dict[str, Any] | None = json.loads(lines[-1].removeprefix(_MARK)) if lines else None
    return found
