"""Whichever command is the first makes a data directory that its owner alone can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.process import minivault
from tests.models.fake_hub import FakeRepository, fake_hub
from tests.oracle.golden import DATA


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.parametrize(
    "command",
    [
        ("config", "init"),
        ("keys", "create", "ops"),
        ("generate", "hi", "--local", "--max-tokens", "1"),
        ("models", "import", str(DATA / "gpt2")),
        ("models", "add-remote", "far", "--url", "http://127.0.0.1:1/v1"),
    ],
)
def test_a_first_command_makes_a_private_folder(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = minivault(*command, "--data-dir", str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    assert mode_of(tmp_path / "new") == 0o700


def test_a_first_pull_makes_a_private_folder(tmp_path: Path) -> None:
    with fake_hub() as hub:
        files = {path.name: path.read_bytes() for path in (DATA / "llama-gqa").iterdir()}
        hub.repositories["distilbert/distilgpt2"] = FakeRepository(files)
        done = minivault("models", "pull", "distilgpt2", "--data-dir", str(tmp_path / "new"), HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert mode_of(tmp_path / "new") == 0o700


def test_a_command_that_is_refused_makes_none(tmp_path: Path) -> None:
    for command in (("import", "/nowhere"), ("add-adapter", "nothing", "/nowhere")):
        assert minivault("models", *command, "--data-dir", str(tmp_path / "new")).returncode != 0
    assert not (tmp_path / "new").exists()
