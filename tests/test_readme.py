"""Every block of the README is run, in order, as a reader would; and what the README lists is complete."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.docs import reading
from tests.docs.rules import RULES, try_all
from tests.docs.scene import POSIX, scene


def test_every_block_has_a_rule_by_which_it_is_tried() -> None:
    assert [str(block) for block in reading.blocks(reading.README) if block.language not in RULES] == []
    assert reading.indented_code(reading.README) == []


@POSIX
@pytest.mark.timeout(600)
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    with scene(tmp_path) as machine:
        try_all(reading.blocks(reading.README), machine)


def test_the_table_of_fields_is_complete_and_true() -> None:
    from minivault.api.wire.native import GenerateRequest

    assert sorted(reading.fields_in_api_document()) == sorted(GenerateRequest.model_fields)


def test_every_kind_of_checkpoint_is_named() -> None:
    from minivault.models.families import BY_MODEL_TYPE

    text = reading.text_of(reading.README)
    assert [kind for kind in BY_MODEL_TYPE if f"`{kind}`" not in text] == []


FIGURES = {
    "MiniVault": "MiniVault int8",
    "OpenVINO GenAI, at its best": "OpenVINO GenAI INT8, dynamic quantisation 128",
    "llama.cpp, built for this machine": "llama.cpp Q8_0, native build",
    "llama.cpp's server, from its wheel": "llama.cpp Q8_0, server in the wheel",
}
"""Whose figures the README gives, and what docs/benchmarks.md calls them."""


def table_after(text: str, marker: str) -> dict[str, dict[str, str]]:
    """The first table after a marker: cells by the first cell of their row and by their column."""
    after = itertools.dropwhile(lambda line: not line.startswith("|"), text.partition(marker)[2].splitlines())
    table = itertools.takewhile(lambda line: line.startswith("|"), after)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_the_readme_compares_by_the_measured_figures() -> None:
    shown = table_after(reading.text_of(reading.README), "tokens a second):")
    measured = table_after(reading.text_of(reading.ROOT / "docs" / "benchmarks.md"), "\n## TinyLlama-1.1B\n")
    assert set(shown) == set(FIGURES)
    for row, cells in shown.items():
        for column, figure in cells.items():
            found = measured[FIGURES[row]][column]
            assert figure == (f"{float(found.replace(',', '')):,.0f}" if found else ""), (row, column)
