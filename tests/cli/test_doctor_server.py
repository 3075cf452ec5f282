"""``minivault doctor`` asks the server that runs on the folder how it is, and tells what that says is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minivault.access.key_file import KeyTerms
from minivault.access.keys import KeyStore
from minivault.access.roles import Role
from minivault.cli.address import published
from minivault.cli.examine_server import examine_server, told
from minivault.settings import load_settings
from tests.cli.process import RunningServer, minivault, serving

URL = "http://127.0.0.1:8000"
WELL: dict[str, Any] = {"reason": None, "vault": {"head_error": None, "mirror_error": None}}


def test_where_no_server_runs_nothing_is_said(tmp_path: Path) -> None:
    assert list(examine_server(load_settings(data_dir=tmp_path))) == []


def test_a_server_that_is_well_is_told(server: RunningServer) -> None:
    (found,) = examine_server(load_settings(data_dir=server.data_dir))
    assert (found.verdict, found.found) == ("ok", f"runs at {server.url}, and is well")


@pytest.mark.parametrize("name", ["head_error", "mirror_error"])
def test_what_a_server_says_of_its_vault_is_told(name: str) -> None:
    well, wrong = told(URL, {**WELL, "vault": {name: "the file may not be written"}})
    assert (well.verdict, wrong.what, wrong.verdict) == ("ok", name, "fail")
    assert wrong.found == "the file may not be written"
    assert wrong.advice.startswith("The records are safe.")


def test_a_server_that_is_not_ready_is_told_with_its_reason() -> None:
    (found,) = told(URL, {**WELL, "reason": "The model is loading."})
    assert (found.verdict, found.found) == ("warn", f"runs at {URL}, and is not ready: The model is loading.")


@pytest.mark.parametrize("health", [{}, {"vault": None}, {"vault": []}])
def test_another_version_of_the_server_is_no_fault(health: dict[str, Any]) -> None:
    assert [finding.verdict for finding in told(URL, health)] == ["ok"]


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with published(tmp_path, "http://127.0.0.1:9"):
        (found,) = examine_server(load_settings(data_dir=tmp_path))
    assert (found.verdict, found.advice.startswith("No server answers at")) == ("warn", True)


def test_a_head_that_a_running_server_cannot_export_is_found_unless_it_asks_for_a_key(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "config.toml").write_text(f'head_export = "{tmp_path}/none/heads"\n', encoding="utf-8")
    with serving(folder) as running:
        assert minivault("generate", "hi", "--url", running.url, "--max-tokens", "4").returncode == 0
        assert (
            minivault("vault", "prove", "0", "--data-dir", str(folder), "-o", str(tmp_path / "proof")).returncode == 0
        )
        done = minivault("doctor", "--data-dir", str(folder), "--json")
        KeyStore.in_folder(folder).create("ops", KeyTerms(role=Role.ADMIN))
        (refused,) = examine_server(load_settings(data_dir=folder))
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert (done.returncode, found["head_export"]["verdict"], found["head_error"]["verdict"]) == (1, "fail", "fail")
    assert "its folder is not there" in found["head_error"]["found"]
    assert (refused.verdict, "MINIVAULT_API_KEY" in refused.advice) == ("ok", True)
