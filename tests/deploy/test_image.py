"""The Dockerfile, as far as it can be run without a container engine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.image import instructions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=f"{sys.prefix}/deploy/bin:{os.environ.get('PATH', '')}")
FOLDER = os.environ.get("MINIVAULT_IMAGE_FOLDER", "")


def test_the_image_runs_as_nobody_special_and_says_when_it_is_well() -> None:
    told = instructions(DOCKERFILE.read_text(encoding="utf-8"))
    last = told[max(place for place, (name, _) in enumerate(told) if name == "FROM") :]
    said = dict(last)
    assert said["USER"] not in ("root", "0")
    assert said["VOLUME"] == "/data"
    assert "/readyz" in said["HEALTHCHECK"]


def test_the_image_may_listen_without_a_key_only_because_it_asks_for_one() -> None:
    told = shlex.split(dict(instructions(DOCKERFILE.read_text(encoding="utf-8")))["ENV"])
    assert {"MINIVAULT_UNSAFE_BIND=true", "MINIVAULT_REQUIRE_KEYS=true"} <= set(told)


def test_what_is_copied_is_there() -> None:
    told = instructions(DOCKERFILE.read_text(encoding="utf-8"))
    sources = [text.split()[0] for name, text in told if name == "COPY" and not text.startswith("--from")]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: run `make deploy-tools`")
def test_hadolint_finds_no_fault() -> None:
    ignored = [*("--ignore", "DL3008"), *("--ignore", "DL3066")]  # Debian keeps no old versions; the user is made above
    done = subprocess.run([str(HADOLINT), *ignored, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FOLDER, reason="takes root, debootstrap and minutes: MINIVAULT_IMAGE_FOLDER=/some/new/folder")
def test_its_steps_run_in_a_clean_debian_and_its_command_becomes_healthy() -> None:
    done = subprocess.run([sys.executable, "tests/deploy/image.py", FOLDER], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
