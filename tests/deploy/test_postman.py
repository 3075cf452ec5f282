"""The Postman collection is what the OpenAPI document makes of it, harms nothing, and runs against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minivault.api.app import create_app
from minivault.settings import Settings
from tests.e2e.server import serving

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "deploy" / "minivault.postman_collection.json"
NEWMAN = next(iter(ROOT.glob(".venv/clients-node/node_modules/.bin/newman")), None) or shutil.which("newman")


def requests() -> dict[str, dict[str, Any]]:
    folders = json.loads(COLLECTION.read_text(encoding="utf-8"))["item"]
    return {one["name"].rpartition("(")[2].rstrip(")"): one["request"] for folder in folders for one in folder["item"]}


def test_it_is_what_would_be_written() -> None:
    done = subprocess.run([sys.executable, "docs/postman.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"write it anew: python docs/postman.py\n{done.stderr}"


def test_it_has_every_route_of_the_document() -> None:
    paths = create_app(Settings(), service=None).openapi()["paths"]
    assert set(requests()) == {f"{method.upper()} {path}" for path, one in paths.items() for method in one}


def test_running_it_takes_nothing_away() -> None:
    for name, request in requests().items():
        if name.startswith("DELETE") or name.endswith("/unload"):
            aim = json.dumps([request["url"]["raw"], request.get("body", {})])
            assert any(word in aim for word in ("no-such", "none", "1970", "{{key}}", "{{file}}", "{{response}}")), name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(NEWMAN is None, reason="newman is not here (make clients, or npm install -g newman)")
def test_newman_runs_it_against_a_real_server(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        told = ["--env-var", f"baseUrl={server.url}", "--reporters", "cli", "--color", "off"]
        done = subprocess.run([str(NEWMAN), "run", str(COLLECTION), *told], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
