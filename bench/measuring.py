"""Takes the measurements: prepares what they need, and then runs them in turn, each in a process of its own.

Knows nothing of reports.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.contenders import ROOT, Contender, prepare
from bench.machine import Others, wait_for_quiet
from bench.report import QUIET, Run
from bench.shapes import SHAPES
from bench.workload import Kind, Task, read_result

_TOO_LONG = "took more than"


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
    timeout: float = 900

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


def measure_all(plan: Plan, first_round: int = 0) -> Iterator[Run]:
    """Each measurement as it is taken; first those that cannot be, with their errors."""
    failed: set[tuple[str, str]] = set()
    for run in _prepare_all(plan):
        failed.add((run.contender, run.shape))
        yield run
    broken: set[tuple[str, str, str]] = set()
    for number_of_round, shape, task, contender in plan.turns():
        if (contender.key, shape) in failed or (contender.key, shape, task) in broken:
            continue
        run = _measure(plan, contender, shape, task, first_round + number_of_round)
        if run.error and not run.error.startswith(_TOO_LONG):
            broken.add((contender.key, shape, task))
        yield run


def _prepare_all(plan: Plan) -> Iterator[Run]:
    """Environments and checkpoints, before anything is measured."""
    for contender in plan.contenders:
        for shape in plan.shapes:
            try:
                if contender.environment is not None:
                    contender.environment.make()
                prepare(contender.form, shape)
            except subprocess.CalledProcessError as fault:
                yield Run(shape, contender.key, "set-up", 0, None, _last_lines(fault.stderr or str(fault)))


def _measure(plan: Plan, contender: Contender, shape: str, task: str, number_of_round: int) -> Run:
    """The least disturbed of as many tries as it takes, up to ``retries`` more than one."""
    tries: list[Run] = []
    for _ in range(1 + plan.retries):
        wait_for_quiet(QUIET, plan.wait)
        tries.append(measure_once(plan, contender, shape, task, number_of_round))
        if tries[-1].error or tries[-1].others <= QUIET:
            break
    return min(tries, key=lambda run: (bool(run.error), run.others))


def measure_once(plan: Plan, contender: Contender, shape: str, task: str, number_of_round: int) -> Run:
    kind, _, count = task.partition(" ")
    work = Task(
        checkpoint=str(prepare(contender.form, shape)),
        kind=cast("Kind", kind),
        streams=int(count) if kind == "decode" else 1,
        prompt_tokens=64 if kind == "decode" else int(count),
        new_tokens=1 if kind == "prefill" else plan.new_tokens,
        threads=plan.threads,
        options=contender.options,
    )
    others = Others()
    result, error = _run(contender, work, plan.timeout)
    return Run(shape, contender.key, task, number_of_round, result, error, round(others.cores(), 3))


def _run(contender: Contender, work: Task, timeout: float) -> tuple[dict[str, Any] | None, str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(work.threads)} | dict(contender.variables)
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(  # noqa: S603
            contender.command(work.to_json()),
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"{_TOO_LONG} {timeout:g} s"
    result = read_result(done.stdout)
    if done.returncode != 0 or result is None:
        return None, _last_lines(done.stderr) or f"exit code {done.returncode}"
    return result, ""


def _last_lines(text: str, most: int = 400) -> str:
    """The end of an error, without the places of this machine."""
    return text.strip().replace(str(ROOT), ".").replace(str(Path.home()), "~")[-most:]
