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
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, this folder stands there instead

from bench.contenders import BUILD, CONTENDERS  # noqa: E402
from bench.machine import Machine, read_bandwidth, read_machine, wait_for_quiet  # noqa: E402
from bench.measuring import Plan, measure_all  # noqa: E402
from bench.plot import Panel, bar_chart  # noqa: E402
from bench.report import CACHED, QUIET, Results, Run, document, figure_of, number, ratio_table, sections_of_others  # noqa: E402
from bench.shapes import SHAPES  # noqa: E402

OURS = {contender.key for contender in CONTENDERS if contender.ours}


def main() -> None:
    plan, output, only_report, more = _plan(sys.argv[1:])
    store = BUILD / "results.json"
    if only_report:
        machine, runs, facts = _read(store)
        _write_documents(output, machine, runs, facts)
        return
    started = datetime.datetime.now(datetime.UTC)
    wait_for_quiet(QUIET, plan.wait)
    machine = read_machine(plan.threads, BUILD)
    print(f"{machine.processor}, {machine.cores} cores, {machine.bandwidth / 1e9:.1f} GB/s", flush=True)
    facts = _run_facts(plan, started)
    taken: list[Run] = []
    if more:
        former, taken, earlier = _read(store)
        facts["When"] = f"{earlier['When'].partition(' to ')[0]} to {facts['When']}"
        machine = replace(machine, bandwidth=max(machine.bandwidth, former.bandwidth))
    for run in measure_all(plan, first_round=1 + max((run.round for run in taken), default=-1)):
        _print(run)
        if run.task == "decode 1" and run.contender in OURS:
            run = replace(run, bandwidth=read_bandwidth(plan.threads, BUILD))
        taken.append(run)
        _store(store, machine, taken, facts)
    # Bandwidth again: the better of two moments is nearer to what the hardware allows.
    wait_for_quiet(QUIET, plan.wait)
    machine = replace(machine, bandwidth=max(machine.bandwidth, read_bandwidth(plan.threads, BUILD)))
    _store(store, machine, taken, facts)
    _write_documents(output, machine, taken, facts)


def _store(path: Path, machine: Machine, runs: Sequence[Run], facts: Mapping[str, str]) -> None:
    path.write_text(json.dumps([asdict(machine), [asdict(run) for run in runs], facts]), encoding="utf-8")


def _print(run: Run) -> None:
    value = run.error.rpartition("\n")[2] if run.result is None else number(run.result[figure_of(run.task)])
    line = f"round {run.round + 1}  {run.shape}  {run.task:12}  {run.contender:24}  {value:>8}"
    print(f"{line}  (others: {run.others:.2f} cores)", flush=True)


def _run_facts(plan: Plan, started: datetime.datetime) -> dict[str, str]:
    return {
        "When": started.strftime("%Y-%m-%d %H:%M UTC"),
        "Work": f"{plan.threads} threads each; random weights; greedy, past any end of sequence; prompts of 64 tokens, "
        f"all streams started together, {plan.new_tokens} generated tokens each; prefill: one prompt, median of three; "
        "warm-up before each",
    }


def _write_documents(output: Path, machine: Machine, runs: Sequence[Run], facts: Mapping[str, str]) -> None:
    results = Results(runs)
    shapes = [shape for shape in SHAPES if any(run.shape == shape for run in runs)]
    tasks = sorted({run.task for run in runs if run.result}, key=_task_order)
    seen = {run.contender for run in runs}
    contenders = [contender for contender in CONTENDERS if contender.key in seen]
    page = output / "benchmarks.md"
    kept = sections_of_others(page.read_text(encoding="utf-8")) if page.exists() else []
    page.write_text(document(results, contenders, shapes, tasks, machine, facts, kept), encoding="utf-8")
    panels = []
    for shape in shapes:
        decode = [task for task in tasks if task.startswith("decode")]
        series = {one.title: [results.median(shape, one.key, task, "decode") for task in decode] for one in contenders}
        labels = [f"{task.split()[1]} streams" for task in decode]
        panels.append(Panel(f"{shape}: tokens per second", labels, series))
    (output / "benchmarks.svg").write_text(bar_chart(panels), encoding="utf-8")
    print(ratio_table(results, {contender.key: contender.title for contender in CONTENDERS}))


def _task_order(task: str) -> tuple[str, int]:
    kind, _, count = task.partition(" ")
    return kind, int(count)


def _read(store: Path) -> tuple[Machine, list[Run], dict[str, str]]:
    machine, runs, facts = json.loads(store.read_text(encoding="utf-8"))
    return Machine(**machine | {"features": tuple(machine["features"])}), [Run(**run) for run in runs], facts


def _plan(arguments: list[str]) -> tuple[Plan, Path, bool, bool]:
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
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one measurement may take")
    parser.add_argument("--quick", action="store_true", help="a small shape, few tokens, one round")
    parser.add_argument("--more", action="store_true", help="add rounds to the last run")
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
    tasks += [] if given.quick else [CACHED]
    sizes = (given.rounds, given.new_tokens, given.threads, given.retries)
    return (
        Plan(tuple(wanted), tuple(shapes), tuple(tasks), *sizes, given.wait, given.timeout),
        output,
        given.report,
        given.more,
    )


if __name__ == "__main__":
    main()
