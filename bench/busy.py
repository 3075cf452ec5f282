"""How fast each contender decodes while other programs use the machine too, as they do on most people's.

    python bench/busy.py                              two programs that compute without end, beside distilgpt2
    python bench/busy.py --programs 4 --shapes SmolLM2-135M,TinyLlama-1.1B --only ours-int8 --only openvino-int8

Contenders take turns; each figure is the median of the rounds, beside the one with no other program. Prints a table in
Markdown. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, this folder stands there instead

from bench.contenders import CONTENDERS, Contender, prepare
from bench.measuring import Plan, measure_once
from bench.shapes import SHAPES

USUAL = ("ours-int8", "openvino-int8", "xllamacpp-q8", "llamacpp-q8")


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many programs that compute without end, each with one thread."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    keys = [contender.key for contender in CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=2, help="that compute without end")
    parser.add_argument("--only", action="append", choices=keys, metavar="NAME", help=f"default: {', '.join(USUAL)}")
    parser.add_argument("--shapes", default="distilgpt2", help=f"comma-separated, of {', '.join(SHAPES)}")
    parser.add_argument("--streams", default="1,8", help="comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    contenders = [one for one in CONTENDERS if one.key in (given.only or USUAL)]
    tasks = [f"decode {count}" for count in given.streams.split(",")]
    shapes = given.shapes.split(",")
    plan = Plan(tuple(contenders), tuple(shapes), tuple(tasks), 1, given.new_tokens, given.threads, 0, 0)
    for contender in contenders:
        if contender.environment is not None:
            contender.environment.make()
        for shape in shapes:
            prepare(contender.form, shape)
    columns = [(shape, task) for shape in shapes for task in tasks]
    found: dict[tuple[str, str, str, int], list[float]] = {}
    for number in range(given.rounds):
        for shape, task in columns:
            for programs in (0, given.programs):
                for contender in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
                    with busy(programs):
                        run = measure_once(plan, contender, shape, task, number)
                    if run.result is None:
                        print(f"{contender.key}, {shape}, {task}: {run.error}", file=sys.stderr)
                        continue
                    found.setdefault((contender.key, shape, task, programs), []).append(float(run.result["decode"]))
    _print(contenders, columns, found, given.programs)
    return 0


def _print(
    contenders: Sequence[Contender],
    columns: Sequence[tuple[str, str]],
    found: dict[tuple[str, str, str, int], list[float]],
    programs: int,
) -> None:
    print(
        "| tokens per second | " + " | ".join(f"{shape}, {task.split()[1]} at once" for shape, task in columns) + " |"
    )
    print("| --- |" + " ---: |" * len(columns))
    for contender in contenders:
        cells = []
        for shape, task in columns:
            alone, beside = (found.get((contender.key, shape, task, count)) for count in (0, programs))
            cells.append(f"{_median(alone)} → {_median(beside)}")
        print(f"| {contender.title} | " + " | ".join(cells) + " |")


def _median(values: Sequence[float] | None) -> str:
    return f"{statistics.median(values):,.3g}" if values else "failed"


if __name__ == "__main__":
    raise SystemExit(main())
