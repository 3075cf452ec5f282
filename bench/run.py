"""``make bench``: measures MiniVault and its peers in turn, in one run, and writes docs/benchmarks.md.

Every measurement is a process of its own; contenders take turns within a task, and tasks within a round, so that a
slow minute of the machine falls on all of them. A peer that cannot be installed or run is left out, its error reported.

    python bench/run.py --quick                     a small shape, one round: does it all work? Writes to build/bench.
    python bench/run.py --shapes TinyLlama-1.1B --streams 1,16 --only ours-int8 --only xllamacpp-q8
    python bench/run.py --without xllamacpp-q8
    python bench/run.py --report                    write the documents anew from the last run's figures
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, this folder stands there instead

from bench.contenders import BUILD, CONTENDERS, Contender, prepare  # noqa: E402
from bench.machine import Machine, Others, read_machine, wait_for_quiet  # noqa: E402
from bench.plot import Panel, bar_chart  # noqa: E402
from bench.report import Results, Run, document, figure_of, number, ratio_table  # noqa: E402
from bench.shapes import SHAPES  # noqa: E402
from bench.workload import Kind, Task, read_result  # noqa: E402

TIMEOUT = 900
QUIET = 0.15
"""Cores: a measurement beside which others used more than this is taken again, while there are retries."""


@dataclass(frozen=True)
class Plan:
    contenders: tuple[Contender, ...]
    shapes: tuple[str, ...]
    tasks: tuple[str, ...]
    rounds: int
    new_tokens: int
    threads: int
    retries: int
    wait: float
    output: Path

    def turns(self) -> Iterator[tuple[int, str, str, Contender]]:
        """Everything to measure, in order; who goes first moves on with each task and round."""
        for number_of_round in range(self.rounds):
            for shape in self.shapes:
                for index, task in enumerate(self.tasks):
                    able = [contender for contender in self.contenders if takes(contender, shape, task)]
                    first = (index + number_of_round) % max(1, len(able))
                    for contender in able[first:] + able[:first]:
                        yield number_of_round, shape, task, contender


def takes(contender: Contender, shape: str, task: str) -> bool:
    kind, _, count = task.partition(" ")
    if kind == "cached":
        return contender.cached
    if kind == "prefill":
        return contender.prefill and int(count) < SHAPES[shape].context
    return not contender.streams or int(count) in contender.streams


def main() -> None:
    plan, only_report = _plan(sys.argv[1:])
    store = BUILD / "results.json"
    if only_report:
        machine, runs, facts = _read(store)
        _write_documents(plan, machine, runs, facts)
        return
    started = datetime.datetime.now(datetime.UTC)
    machine = read_machine(plan.threads, BUILD)
    print(f"{machine.processor}, {machine.cores} cores, {machine.bandwidth / 1e9:.1f} GB/s", flush=True)
    runs = list(_measure_all(plan))
    facts = _run_facts(plan, runs, started)
    store.write_text(json.dumps([asdict(machine), [asdict(run) for run in runs], facts]), encoding="utf-8")
    _write_documents(plan, machine, runs, facts)


def _measure_all(plan: Plan) -> Iterator[Run]:
    broken: dict[tuple[str, ...], str] = {}
    for number_of_round, shape, task, contender in plan.turns():
        if (contender.key,) in broken or (contender.key, shape, task) in broken:
            continue
        try:
            if contender.environment is not None:
                contender.environment.make()
        except subprocess.CalledProcessError as fault:
            broken[(contender.key,)] = "not installed"
            yield Run(shape, contender.key, task, number_of_round, None, _last_lines(fault.stderr))
            continue
        run = _measure(plan, contender, shape, task, number_of_round)
        if run.error:
            broken[(contender.key, shape, task)] = run.error
        _print(run, contender)
        yield run


def _measure(plan: Plan, contender: Contender, shape: str, task: str, number_of_round: int) -> Run:
    """The least disturbed of as many tries as it takes, up to ``retries`` more than one."""
    tries: list[Run] = []
    for _ in range(1 + plan.retries):
        wait_for_quiet(QUIET, plan.wait)
        tries.append(_measure_once(plan, contender, shape, task, number_of_round))
        if tries[-1].error or tries[-1].others <= QUIET:
            break
    return min(tries, key=lambda run: (bool(run.error), run.others))


def _measure_once(plan: Plan, contender: Contender, shape: str, task: str, number_of_round: int) -> Run:
    kind, _, count = task.partition(" ")
    try:
        checkpoint = prepare(contender.form, shape)
    except subprocess.CalledProcessError as fault:
        return Run(shape, contender.key, task, number_of_round, None, _last_lines(fault.stderr or str(fault)))
    work = Task(
        checkpoint=str(checkpoint),
        kind=cast("Kind", kind),
        streams=int(count) if kind == "decode" else 1,
        prompt_tokens=64 if kind == "decode" else int(count),
        new_tokens=1 if kind == "prefill" else plan.new_tokens,
        threads=plan.threads,
        options=contender.options,
    )
    others = Others()
    result, error = _run(contender, work)
    return Run(shape, contender.key, task, number_of_round, result, error, round(others.cores(), 3))


def _run(contender: Contender, work: Task) -> tuple[dict[str, Any] | None, str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(work.threads)} | dict(contender.variables)
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(  # noqa: S603
            contender.command(work.to_json()),
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"took more than {TIMEOUT} s"
    result = read_result(done.stdout)
    if done.returncode != 0 or result is None:
        return None, _last_lines(done.stderr) or f"exit code {done.returncode}"
    return result, ""


def _last_lines(text: str, most: int = 400) -> str:
    """The end of an error, without the places of this machine."""
    return text.strip().replace(str(ROOT), ".").replace(str(Path.home()), "~")[-most:]


def _print(run: Run, contender: Contender) -> None:
    value = run.error.rpartition("\n")[2] if run.result is None else number(run.result[figure_of(run.task)])
    line = f"round {run.round + 1}  {run.shape}  {run.task:12}  {contender.title:40}  {value:>8}"
    print(f"{line}  (others: {run.others:.2f} cores)", flush=True)


def _run_facts(plan: Plan, runs: Sequence[Run], started: datetime.datetime) -> dict[str, str]:
    others = [run.others for run in runs if run.result is not None] or [0.0]
    kernels = sorted({str(run.result["kernels"]) for run in runs if run.result and "kernels" in run.result})
    return {
        "When": started.strftime("%Y-%m-%d %H:%M UTC"),
        "Our kernels": ", ".join(kernels),
        "Work": f"{plan.threads} threads each; random weights; greedy, past any end of sequence; prompts of 64 tokens, "
        f"all streams started together, {plan.new_tokens} generated tokens each; prefill: one prompt, median of three; "
        "warm-up before each",
        "Rounds": f"{plan.rounds}; each figure is the median of its rounds",
        "Quiet": f"beside a measurement, other processes used {statistics.median(others):.2f} cores in the median and "
        f"{max(others):.2f} at most",
    }


def _write_documents(plan: Plan, machine: Machine, runs: Sequence[Run], facts: Mapping[str, str]) -> None:
    results = Results(runs)
    shapes = [shape for shape in SHAPES if any(run.shape == shape for run in runs)]
    tasks = sorted({run.task for run in runs}, key=_task_order)
    seen = {run.contender for run in runs}
    contenders = [contender for contender in CONTENDERS if contender.key in seen]
    (plan.output / "benchmarks.md").write_text(
        document(results, contenders, shapes, tasks, machine, facts), encoding="utf-8"
    )
    panels = []
    for shape in shapes:
        decode = [task for task in tasks if task.startswith("decode")]
        series = {one.title: [results.median(shape, one.key, task, "decode") for task in decode] for one in contenders}
        labels = [f"{task.split()[1]} streams" for task in decode]
        panels.append(Panel(f"{shape}: tokens per second", labels, series))
    (plan.output / "benchmarks.svg").write_text(bar_chart(panels), encoding="utf-8")
    print(ratio_table(results, {contender.key: contender.title for contender in contenders}))


def _task_order(task: str) -> tuple[str, int]:
    kind, _, count = task.partition(" ")
    return kind, int(count)


def _read(store: Path) -> tuple[Machine, list[Run], dict[str, str]]:
    machine, runs, facts = json.loads(store.read_text(encoding="utf-8"))
    return Machine(**machine | {"features": tuple(machine["features"])}), [Run(**run) for run in runs], facts


def _plan(arguments: list[str]) -> tuple[Plan, bool]:
    keys = [contender.key for contender in CONTENDERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=keys, metavar="NAME", help="measure these alone")
    parser.add_argument("--without", action="append", choices=keys, metavar="NAME", default=[], help="leave one out")
    parser.add_argument("--shapes", help=f"comma-separated, of {', '.join(SHAPES)}")
    parser.add_argument("--streams", default="1,8,16,32", help="comma-separated")
    parser.add_argument("--prefill", default="512,2048", help="prompt lengths, comma-separated; empty: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--retries", type=int, default=1, help="more tries when others used the machine meanwhile")
    parser.add_argument("--wait", type=float, default=20, help="seconds to wait for a quiet machine before each try")
    parser.add_argument("--quick", action="store_true", help="a small shape, few tokens, one round")
    parser.add_argument("--report", action="store_true", help="only write the documents anew")
    given = parser.parse_args(arguments)
    output = BUILD if given.quick else ROOT / "docs"
    usual = "distilgpt2" if given.quick else "distilgpt2,TinyLlama-1.1B"
    shapes = (given.shapes or usual).split(",")
    if given.quick:
        given.streams, given.prefill, given.rounds = "1,8", "512", 1
        given.new_tokens, given.retries, given.wait = 16, 0, 0
    unknown = set(shapes) - set(SHAPES)
    if unknown:
        parser.error(f"no such shape; there are {', '.join(SHAPES)}")
    wanted = [one for one in CONTENDERS if one.key not in given.without and (not given.only or one.key in given.only)]
    tasks = [f"decode {count}" for count in given.streams.split(",") if count]
    tasks += [f"prefill {count}" for count in given.prefill.split(",") if count]
    tasks += [] if given.quick else ["cached 512"]
    sizes = (given.rounds, given.new_tokens, given.threads, given.retries)
    return Plan(tuple(wanted), tuple(shapes), tuple(tasks), *sizes, given.wait, output), given.report


if __name__ == "__main__":
    main()
