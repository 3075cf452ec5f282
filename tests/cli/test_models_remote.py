"""``minivault models add-remote``: what it says of an address."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from minivault.cli.main import app


@pytest.mark.parametrize(("url", "told"), [("http://127.0.0.1:1", True), ("http://127.0.0.1:1/v1", False)])
def test_an_address_without_v1_is_taken_with_a_word(tmp_path: Path, url: str, told: bool) -> None:
    words = ["models", "add-remote", "far", "--url", url, "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert ("http://127.0.0.1:1/chat/completions will be asked" in " ".join(result.stderr.split())) is told
