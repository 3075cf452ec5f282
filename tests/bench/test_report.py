"""Medians, ratios and tables from measurements, and who is measured when."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.contenders import CONTENDERS, Contender
from bench.machine import Machine, Others
from bench.measuring import Plan, takes
from bench.plot import Panel, bar_chart
from bench.report import (
    BARS,
    Bar,
    Results,
    Run,
    all_ratios,
    document,
    number,
    ratio_table,
    sections_of_others,
    speed_table,
)

OURS, PEER = CONTENDERS[0], next(one for one in CONTENDERS if not one.ours)
MACHINE = Machine("A processor", 2, 16 << 30, ("avx2",), "Linux", 50e9)


def runs(contender: Contender, task: str, *values: float) -> list[Run]:
    figure = task.split()[0]
    facts = {"overall": 1.0, "first_token_seconds": 2.0, "peak_bytes": 1 << 30}
    return [
        Run("TinyLlama-1.1B", contender.key, task, place, {figure: value, **facts})
        for place, value in enumerate(values)
    ]


def test_a_figure_is_the_median_of_its_rounds() -> None:
    results = Results(runs(OURS, "decode 16", 400, 90, 500))
    assert results.median("TinyLlama-1.1B", OURS.key, "decode 16", "decode") == 400


def test_rounds_that_others_disturbed_count_only_where_there_is_no_other() -> None:
    loud = [replace(run, others=1.2) for run in runs(OURS, "decode 16", 90, 70)]
    assert Results(loud).median("TinyLlama-1.1B", OURS.key, "decode 16", "decode") == 80
    both = Results([*loud, *runs(OURS, "decode 16", 400)])
    assert both.median("TinyLlama-1.1B", OURS.key, "decode 16", "decode") == 400
    assert not both.disturbed("TinyLlama-1.1B", OURS.key, "decode 16")


def test_a_ratio_is_of_medians_of_the_same_task() -> None:
    results = Results(runs(OURS, "decode 16", 400, 420) + runs(PEER, "decode 16", 41) + runs(PEER, "decode 1", 7))
    assert results.ratio(Bar(OURS.key, PEER.key, "TinyLlama-1.1B", "decode 16", 8)) == pytest.approx(10.0)


def test_what_was_not_measured_has_no_ratio_and_no_figure() -> None:
    results = Results(runs(OURS, "decode 16", 400))
    assert results.ratio(Bar(OURS.key, PEER.key, "TinyLlama-1.1B", "decode 16", 8)) is None
    assert "not measured" in ratio_table(results, {})
    assert PEER.title not in speed_table(results, [OURS, PEER], "TinyLlama-1.1B", ["decode 16"])


def test_a_missed_bar_is_called_missed() -> None:
    bar = next(bar for bar in BARS if (bar.ours, bar.peer, bar.task) == (OURS.key, PEER.key, "decode 16"))
    for factor, word in ((bar.least * 1.01, "met"), (bar.least * 0.99, "missed")):
        table = ratio_table(Results(runs(OURS, "decode 16", 40 * factor) + runs(PEER, "decode 16", 40)), {})
        assert f"{factor:.2f}x | {word} |" in table


def test_a_peer_that_failed_is_in_the_document_with_its_error() -> None:
    failed = Run("TinyLlama-1.1B", PEER.key, "decode 1", 0, None, "no wheel | for this machine")
    ours = [replace(run, bandwidth=50e9) for run in runs(OURS, "decode 1", 40)]
    text = document(
        Results([*ours, failed]),
        [OURS, PEER],
        ["TinyLlama-1.1B"],
        ["decode 1"],
        MACHINE,
        {"When": "now"},
    )
    assert f"| {PEER.key} | TinyLlama-1.1B, decode 1 | no wheel / for this machine |" in text
    assert "A processor; 2 cores; avx2" in text
    assert "| MiniVault int8, TinyLlama-1.1B | 1.034 | 41.4 | 50.0 | 83% | missed |" in text


def test_what_other_programs_measured_stays_when_the_document_is_written_anew() -> None:
    def written(kept: list[str]) -> str:
        measured = Results([*runs(OURS, "decode 1", 40), Run("TinyLlama-1.1B", PEER.key, "decode 1", 0, None, "no")])
        shapes, tasks = ["TinyLlama-1.1B"], ["decode 1"]
        return document(measured, [OURS, PEER], shapes, tasks, MACHINE, {"When": "now"}, kept)

    other = "## The HTTP path\n\nCPU time per token.\n\n| surface | us |\n| --- | ---: |\n| native | 22.8 |"
    former = written([other])
    assert other in former
    assert sections_of_others(former) == [other]
    assert written(sections_of_others(former)) == former
    committed = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "## The HTTP path" in [one.partition("\n")[0] for one in sections_of_others(committed)]


def test_a_figure_that_others_disturbed_has_a_star() -> None:
    quiet, loud = (
        replace(runs(OURS, task, 40)[0], others=others) for task, others in (("decode 1", 0.1), ("decode 8", 0.9))
    )
    peer = runs(PEER, "decode 8", 4)
    assert "disturbed" in ratio_table(Results([replace(loud, task="decode 16"), *runs(PEER, "decode 16", 4)]), {})
    assert "10.00x\\* |" in all_ratios(Results([loud, *peer]), [OURS, PEER], "TinyLlama-1.1B", ["decode 8"])
    table = speed_table(Results([quiet, loud]), [OURS], "TinyLlama-1.1B", ["decode 1", "decode 8"])
    assert f"| {OURS.title} | 40.0 | 40.0\\* |" in table


@pytest.mark.parametrize(("value", "text"), [(None, ""), (1234.5, "1,234"), (41.26, "41.3"), (3.456, "3.46")])
def test_numbers_have_three_figures(value: float | None, text: str) -> None:
    assert number(value) == text


def test_who_goes_first_moves_on_and_all_take_part_in_each_round() -> None:
    plan = Plan((OURS, PEER), ("distilgpt2",), ("decode 1", "decode 8"), 2, 8, 2, 0, 0)
    turns = [(place, task, contender.key) for place, _, task, contender in plan.turns()]
    assert turns == [
        (0, "decode 1", OURS.key), (0, "decode 1", PEER.key), (0, "decode 8", PEER.key), (0, "decode 8", OURS.key),
        (1, "decode 1", PEER.key), (1, "decode 1", OURS.key), (1, "decode 8", OURS.key), (1, "decode 8", PEER.key),
    ]  # fmt: skip


def test_a_task_goes_to_those_who_can_do_it() -> None:
    one = replace(OURS, streams=(1, 8), prefill=False)
    assert [takes(one, "distilgpt2", task) for task in ("decode 8", "decode 16", "prefill 512")] == [True, False, False]
    assert takes(OURS, "TinyLlama-1.1B", "prefill 512")
    assert not takes(OURS, "distilgpt2", "prefill 2048")  # longer than its context


def test_keys_are_unique_and_peers_are_pinned() -> None:
    assert len({one.key for one in CONTENDERS}) == len(CONTENDERS)
    for contender in CONTENDERS:
        for install in contender.environment.installs if contender.environment else ():
            assert all(part.startswith("-") or re.search(r"==\d", part) for part in install), contender.key


def test_a_chart_is_sound_xml_with_one_bar_a_value() -> None:
    chart = bar_chart([Panel("Tokens & time", ["1", "8"], {"ours <int8>": [40.0, 300.0], "peer": [None, 46.0]})])
    titles = [title.text for title in ElementTree.fromstring(chart).iter("{http://www.w3.org/2000/svg}title")]  # noqa: S314
    assert titles == ["ours <int8>: 40.0", "ours <int8>: 300.0", "peer: 46.0"]


def test_the_use_of_the_machine_by_others_is_never_negative() -> None:
    others = Others()
    assert sum(range(200_000)) > 0
    assert 0.0 <= others.cores() < 1024
