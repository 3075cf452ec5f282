"""From measurements to tables and ratios, in Markdown. Pure; knows nothing of processes or engines."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.contenders import CONTENDERS, Contender
from bench.machine import Machine
from bench.shapes import SHAPES, weight_bytes


@dataclass(frozen=True)
class Run:
    """One measuring process."""

    shape: str
    contender: str
    task: str
    """``decode 8`` (streams) or ``prefill 512`` (prompt tokens)."""
    round: int
    result: Mapping[str, Any] | None
    error: str = ""
    others: float = 0.0
    """Cores that other processes used meanwhile."""
    bandwidth: float | None = None
    """Bytes per second that threads which only read got just after, where that was measured."""


@dataclass(frozen=True)
class Bar:
    """Ours has to reach ``least`` times the peer."""

    ours: str
    peer: str
    shape: str
    task: str
    least: float


LLAMA, SMALL, REPEATING = "TinyLlama-1.1B", "distilgpt2", "TinyLlama-1.1B-repeating"
BARS = (
    *(Bar("ours-int8", "openvino-int8-dq", LLAMA, task, least)
      for task, least in (("decode 1", 1.15), ("decode 8", 1.8), ("decode 32", 1.8), ("prefill 512", 1.0))),
    Bar("ours-int8", "openvino-int8-dq", SMALL, "decode 1", 1.15),
    Bar("ours-int8", "openvino-int8-dq", SMALL, "decode 32", 1.3),
    Bar("ours-int8", "llamacpp-q8", LLAMA, "decode 1", 1.3),
    Bar("ours-int8", "xllamacpp-q8", LLAMA, "decode 16", 8.0),
    Bar("ours-int4", "llamacpp-q4", LLAMA, "decode 1", 1.2),
    Bar("ours-int4", "xllamacpp-q4", LLAMA, "decode 16", 8.0),
    *(Bar("ours-int4", "openvino-int4", LLAMA, task, least)
      for task, least in (("decode 1", 1.7), ("decode 8", 2.5), ("decode 32", 2.5))),
    Bar("http-int8", "ours-int8", LLAMA, "decode 32", 0.9),
    Bar("ours-int8-speculating", "ours-int8", REPEATING, "decode 1", 1.8),
)  # fmt: skip

QUIET = 0.15
"""Cores: a measurement beside which others used more than this is disturbed: taken again, and told in the report."""
CACHED = "cached 513"
"""All blocks of the prompt are in the cache; what is left is one token."""
CACHED_STEPS = 1.2
"""Decode steps that the first token of a cached prompt may take."""
BANDWIDTH_SHARE = 0.9
LANE_BITS = {"int8": 8.0, "int4": 4.5}


class Results:
    """Medians over rounds: those that others did not disturb, and where there is none such, all."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)

    def median(self, shape: str, contender: str, task: str, figure: str) -> float | None:
        values = [run.result.get(figure) for run in self.counted(shape, contender, task) if run.result is not None]
        measured = [value for value in values if value is not None]
        return statistics.median(measured) if measured else None

    def all_tasks(self, shape: str, contender: str, figure: str) -> list[float]:
        tasks = dict.fromkeys(run.task for run in self.runs)
        counted = [run for task in tasks for run in self.counted(shape, contender, task)]
        return [run.result[figure] for run in counted if run.result is not None]

    def counted(self, shape: str, contender: str, task: str) -> list[Run]:
        """The rounds that count."""
        wanted = (shape, contender, task)
        found = [run for run in self.runs if run.result is not None and (run.shape, run.contender, run.task) == wanted]
        return [run for run in found if run.others <= QUIET] or found

    def disturbed(self, shape: str, contender: str, task: str) -> bool:
        """Others used the machine beside all of these."""
        return any(run.others > QUIET for run in self.counted(shape, contender, task))

    def ratio_disturbed(self, bar: Bar) -> bool:
        return any(self.disturbed(bar.shape, who, bar.task) for who in (bar.ours, bar.peer))

    def ratio(self, bar: Bar) -> float | None:
        figure = figure_of(bar.task)
        ours, peer = (self.median(bar.shape, who, bar.task, figure) for who in (bar.ours, bar.peer))
        return None if ours is None or not peer else ours / peer

    def failures(self) -> dict[tuple[str, str], str]:
        """What could not be measured in any round, and why."""
        done = {(run.contender, run.shape, run.task) for run in self.runs if run.result is not None}
        failed = [run for run in self.runs if run.error and (run.contender, run.shape, run.task) not in done]
        return {(run.contender, f"{run.shape}, {run.task}"): run.error for run in failed}


def figure_of(task: str) -> str:
    return task.partition(" ")[0]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three figures; an empty cell for what was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def speed_table(
    results: Results, contenders: Sequence[Contender], shape: str, tasks: Sequence[str], figure: str = ""
) -> str:
    """Tokens per second; one line a contender, one column a task. ``figure``: the task's own where not given."""
    rows = []
    for contender in contenders:
        cells = []
        for task in tasks:
            cell = number(results.median(shape, contender.key, task, figure or figure_of(task)))
            cells.append(cell + "\\*" if cell and results.disturbed(shape, contender.key, task) else cell)
        if any(cells):
            rows.append([contender.title, *cells])
    return markdown_table(["", *(_column(task) for task in tasks)], rows)


def _column(task: str) -> str:
    kind, _, count = task.partition(" ")
    if kind == "cached":
        return f"{count} cached"
    if kind == "prefill":
        return f"prefill {int(count):,}"
    return "1 stream" if count == "1" else f"{count} streams"


def start_table(results: Results, contenders: Sequence[Contender], shape: str) -> str:
    rows = []
    for contender in contenders:
        seconds = results.all_tasks(shape, contender.key, "first_token_seconds")
        peaks = results.all_tasks(shape, contender.key, "peak_bytes")
        if seconds and peaks:
            cells = [f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
            cells += [f"{min(peaks) / 2**30:.2f}", f"{max(peaks) / 2**30:.2f}"]
            rows.append([contender.title, *cells])
    return markdown_table(
        ["", "start to first token, s", "the longest, s", "least peak memory, GiB", "most, GiB"], rows
    )


def bandwidth_table(results: Results, contenders: Sequence[Contender], shapes: Sequence[str]) -> str:
    rows = []
    for contender in contenders:
        for shape in shapes:
            rate = results.median(shape, contender.key, "decode 1", "decode")
            if rate is None or not contender.ours or contender.lane not in LANE_BITS:
                continue
            read = weight_bytes(SHAPES[shape], LANE_BITS[contender.lane])
            pairs = [
                (float(run.result["decode"]), run.bandwidth)
                for run in results.counted(shape, contender.key, "decode 1")
                if run.result is not None and run.bandwidth
            ]
            cells = [f"{read / 1e9:.3f}", number(rate * read / 1e9)]
            if pairs:
                share = statistics.median(one * read / bandwidth for one, bandwidth in pairs)
                beside = statistics.median(bandwidth for _, bandwidth in pairs)
                cells += [number(beside / 1e9), f"{share:.0%}", _verdict(share >= BANDWIDTH_SHARE)]
            rows.append([f"{contender.title}, {shape}", *cells, *[""] * (5 - len(cells))])
    head = [
        "1 stream",
        "GB of weights a token",
        "GB/s",
        "of GB/s",
        "share",
        f"bar {BANDWIDTH_SHARE:.0%}",
    ]
    return markdown_table(head, rows)


def cached_table(results: Results, contenders: Sequence[Contender], shapes: Sequence[str]) -> str:
    rows = []
    for contender in contenders:
        for shape in shapes:
            steps = results.median(shape, contender.key, CACHED, "cached")
            if steps is not None:
                verdict = (
                    _DISTURBED if results.disturbed(shape, contender.key, CACHED) else _verdict(steps <= CACHED_STEPS)
                )
                cells = [f"{CACHED_STEPS:g}", f"{steps:.2f}", verdict]
                rows.append([f"{contender.title}, {shape}", *cells])
    return markdown_table(["decode steps to the first token", "bar", "measured", ""], rows)


def ratio_table(results: Results, titles: Mapping[str, str]) -> str:
    """Every bar, with what was measured in this run."""
    rows = []
    for bar in BARS:
        ratio = results.ratio(bar)
        verdict = "not measured" if ratio is None else _verdict(ratio >= bar.least)
        if ratio is not None and results.ratio_disturbed(bar):
            verdict = _DISTURBED
        names = [titles.get(bar.ours, bar.ours), titles.get(bar.peer, bar.peer)]
        cell = "" if ratio is None else f"{ratio:.2f}x"
        rows.append([f"{names[0]} / {names[1]}", bar.shape, _column(bar.task), f"{bar.least:g}x", cell, verdict])
    return markdown_table(["", "shape", "task", "bar", "measured", ""], rows)


_DISTURBED = "disturbed, so neither met nor missed"


def _verdict(reached: bool) -> str:
    return "met" if reached else "missed"


def all_ratios(results: Results, contenders: Sequence[Contender], shape: str, tasks: Sequence[str]) -> str:
    """Our first contender of each lane over each peer of it."""
    rows = []
    for ours in (one for one in contenders if one.ours and one.prefill):
        for peer in (one for one in contenders if not one.ours and one.lane in (ours.lane, "16-bit")):
            cells = [_ratio_cell(results, Bar(ours.key, peer.key, shape, task, 0)) for task in tasks]
            if any(cells):
                rows.append([f"{ours.title} / {peer.title}", *cells])
    return markdown_table(["", *(_column(task) for task in tasks)], rows)


def _ratio_cell(results: Results, bar: Bar) -> str:
    ratio = results.ratio(bar)
    return "" if ratio is None else f"{ratio:.2f}x" + ("\\*" if results.ratio_disturbed(bar) else "")


def document(
    results: Results,
    contenders: Sequence[Contender],
    shapes: Sequence[str],
    tasks: Sequence[str],
    machine: Machine,
    facts: Mapping[str, str],
    kept: Sequence[str] = (),
) -> str:
    """``docs/benchmarks.md``. ``facts``: lines that only the run knows, by their names. ``kept``: others' sections."""
    decode = [task for task in tasks if task.startswith("decode")]
    parts = [
        _INTRODUCTION,
        "## Machine and run\n\n" + _facts(machine, results, facts),
        "## Ratios and their bars\n\n" + _BARS,
    ]
    parts[-1] += ratio_table(results, {contender.key: contender.title for contender in CONTENDERS})
    parts.append("## Share of the memory's bandwidth\n\n" + _BANDWIDTH + bandwidth_table(results, contenders, shapes))
    parts.append("## A prompt of 513 tokens whose first 512 are cached\n\n" + cached_table(results, contenders, shapes))
    tasks = [task for task in tasks if not task.startswith("cached")]
    for shape in shapes:
        parts.append(f"## {shape}\n\nTokens per second while all streams decode; prefill: prompt tokens per second.")
        parts.append(speed_table(results, contenders, shape, tasks))
        parts.append("Ratios:\n\n" + all_ratios(results, contenders, shape, tasks))
        parts.append("Overall: generated tokens over the time from start to end, the prompts' prefill included.\n\n")
        parts[-1] += speed_table(results, contenders, shape, decode, "overall")
        parts.append(start_table(results, contenders, shape))
    parts.extend(kept)
    parts.append("## How each was run\n\n" + "\n".join(f"- {one.title}: {one.note}" for one in contenders))
    failures = results.failures()
    if failures:
        rows = [[who, what, error.replace("|", "/").replace("\n", " ")] for (who, what), error in failures.items()]
        parts.append("## Left out\n\n" + markdown_table(["who", "what", "error"], rows))
    return "\n\n".join(parts) + "\n"


def sections_of_others(former: str) -> list[str]:
    """The sections of a document that other programs measured (``bench/http_path.py``, say), as they stand."""
    ours = {*_OWN_SECTIONS, *SHAPES}
    found = re.findall(r"^## .+?(?=^## |\Z)", former, re.MULTILINE | re.DOTALL)
    return [section.rstrip() for section in found if section.partition("\n")[0].removeprefix("## ") not in ours]


_OWN_SECTIONS = (
    "Machine and run",
    "Ratios and their bars",
    "Share of the memory's bandwidth",
    "A prompt of 513 tokens whose first 512 are cached",
    "How each was run",
    "Left out",
)


def _facts(machine: Machine, results: Results, facts: Mapping[str, str]) -> str:
    taken = [run for run in results.runs if run.result is not None]
    keys = dict.fromkeys((run.shape, run.contender, run.task) for run in taken)
    others = [run.others for key in keys for run in results.counted(*key)] or [0.0]
    kernels = sorted({str(run.result["kernels"]) for run in taken if run.result and "kernels" in run.result})
    described = {
        "Processor": f"{machine.processor}; {machine.cores} cores; {', '.join(machine.features)}",
        "Memory": f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.bandwidth / 1e9:.1f} GB/s read by as many threads",
        "System": machine.system,
        "Our kernels": ", ".join(kernels),
        "Rounds": f"{1 + max((run.round for run in taken), default=0)}; each figure is the median of the rounds in "
        f"which other processes used at most {QUIET:g} cores beside it; where there was none, of all, with a star",
        "Quiet": f"beside the measurements that count, others used {statistics.median(others):.2f} cores in the median "
        f"and {max(others):.2f} at most",
    }
    return "\n".join(f"- {name}: {value}" for name, value in (described | dict(facts)).items())


_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; not to be edited, but for sections that other programs measured. All contenders took turns in
each round, each measurement in a process of its own. Absolute figures move with the machine; the ratios are what
counts.

![Tokens per second](benchmarks.svg)"""

_BANDWIDTH = """\
Of what as many threads that only read got near it in time: on a host that is shared with others, that moves. A share
above 100 % says that it moved in between.

"""

_BARS = """\
A bar is what this project asks of itself. OpenVINO runs as named; llama.cpp ran with a slot for each stream and was not
tuned further. Most figures here are one sample on a shared host, where runs differ by tens of per cent: near a bar, met
and missed say little.

"""
