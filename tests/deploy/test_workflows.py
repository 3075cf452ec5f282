"""GitHub's workflows: their schema, and that what they call is there. Nothing is run on GitHub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TOOLS = Path(sys.prefix) / "deploy" / "bin"
PYTHONS = ("cp311", "cp312", "cp313", "cp314")
needs_tools = pytest.mark.skipif(not TOOLS.exists(), reason="the judges are not installed: run `make deploy-tools`")


def steps() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS]
    return [step for file in files for job in file["jobs"].values() for step in job["steps"]]


@needs_tools
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_what_github_allows(path: Path) -> None:
    judge = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(path)]
    judged = subprocess.run(judge, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout


def test_what_the_workflows_run_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"].split() for step in steps() if "run" in step]
    assert commands
    for program, *arguments in commands:
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), arguments
        else:
            assert (ROOT / program).exists(), program


def test_the_scheduled_run_draws_all_cases_in_a_job_of_its_own() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert ci[True]["schedule"]  # YAML reads the key `on` as true
    fuzz = ci["jobs"]["fuzz"]
    assert (fuzz["if"], fuzz["steps"][-1]["run"]) == ("github.event_name == 'schedule'", "make fuzz")


def test_every_action_has_a_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+\.\d+)?", action)] == []


def test_wheels_are_built_by_the_cibuildwheel_that_was_tried() -> None:
    [pinned] = re.findall(r"^cibuildwheel==(\S+)", (ROOT / "requirements" / "deploy.txt").read_text(), re.MULTILINE)
    assert f"pypa/cibuildwheel@v{pinned}" in [step.get("uses") for step in steps()]


@needs_tools
@pytest.mark.parametrize(
    ("platform", "arch", "suffix"),
    [
        ("linux", "x86_64", "manylinux_x86_64"),
        ("linux", "aarch64", "manylinux_aarch64"),
        ("macos", "arm64", "macosx_arm64"),
        ("macos", "x86_64", "macosx_x86_64"),
        ("windows", "AMD64", "win_amd64"),
    ],
)
def test_wheels_are_built_for_each_python(platform: str, arch: str, suffix: str) -> None:
    ask = [str(TOOLS / "cibuildwheel"), "--print-build-identifiers", "--platform", platform, "--archs", arch]
    told = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.split() == [f"{python}-{suffix}" for python in PYTHONS], told.stderr
