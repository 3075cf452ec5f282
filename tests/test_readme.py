"""What README and docs show is run as it stands, against a live server; what the README lists is complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import readme
from tests.cli.process import MINIVAULT, RunningServer, environment, serving


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("readme")) as server:
        yield server


@pytest.fixture
def shell(live: RunningServer, tmp_path: Path) -> dict[str, str]:
    """An environment in which ``minivault`` is these sources, and its server is the live one."""
    command = tmp_path / "bin" / "minivault"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {" ".join(MINIVAULT)} "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{environment()['PATH']}"
    return environment(PATH=path, MINIVAULT_URL=live.url, MINIVAULT_DATA_DIR=str(live.data_dir), HOME=str(tmp_path))


def on_the_live_server(block: str, live: RunningServer) -> str:
    return block.replace("localhost:8000", live.url.removeprefix("http://"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("block", readme.blocks("sh").values(), ids=readme.blocks("sh").keys())
def test_what_the_documents_type_works(block: str, live: RunningServer, shell: dict[str, str], tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + on_the_live_server(block, live).replace("curl ", "curl --fail-with-body ")
    done = subprocess.run(
        ["bash", "-c", script], env=shell, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != ""


@pytest.mark.parametrize("block", readme.blocks("python").values(), ids=readme.blocks("python").keys())
def test_the_documents_python_runs(block: str, live: RunningServer, shell: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", on_the_live_server(block, live)],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != ""


def test_every_link_leads_to_a_file() -> None:
    assert [link for link in readme.links() if not (readme.README.parent / link).exists()] == []


def test_the_table_of_fields_is_complete_and_true() -> None:
    from minivault.api.wire.native import GenerateRequest

    assert sorted(readme.fields_in_api_document()) == sorted(GenerateRequest.model_fields)


def test_every_kind_of_checkpoint_is_named() -> None:
    from minivault.models.families import BY_MODEL_TYPE

    text = readme.text()
    assert [kind for kind in BY_MODEL_TYPE if f"`{kind}`" not in text] == []
