"""Every block of the README is run, in order, as a reader would; and what the README lists is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs import reading
from tests.docs.rules import RULES, try_all
from tests.docs.scene import scene


def test_every_block_has_a_rule_by_which_it_is_tried() -> None:
    assert [str(block) for block in reading.blocks(reading.README) if block.language not in RULES] == []
    assert reading.indented_code(reading.README) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
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
