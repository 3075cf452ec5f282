"""The wheel and the sdist: what is in them, and that the wheel serves from an environment that has nothing else.

The sdist's list is always looked at. `make package` builds both (the wheel from the sdist) and runs the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.server import Server

ROOT = Path(__file__).parents[2]
DIST = Path(os.environ.get("MINIVAULT_DIST", "/nonexistent"))
MOST_BYTES = 16 << 20
needs_dist = pytest.mark.skipif(not DIST.is_dir(), reason="takes minutes to build: run `make package`")
pytestmark = pytest.mark.slow


def tracked(folder: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no clone: git cannot say what belongs to the package")
    return {name for name in listed.stdout.split("\0") if name}


def sdist_names(archive: Path) -> set[str]:
    with tarfile.open(archive) as packed:
        return {name.partition("/")[2] for name in packed.getnames()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    make = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", make, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel() -> Path:
    [found] = DIST.glob("*.whl")
    return found


def test_the_sdist_has_all_that_the_build_needs_and_is_not_large(sdist: Path) -> None:
    needed = {"CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE"} | tracked("native") | tracked("src")
    assert needed - sdist_names(sdist) == set()
    assert sdist.stat().st_size < MOST_BYTES


def test_the_sdist_has_nothing_of_the_workshop(sdist: Path) -> None:
    tops = {name.partition("/")[0] for name in sdist_names(sdist)}
    assert tops & {"tests", "training", "bench", "build", "dist", ".venv", ".git", "shared"} == set()
    assert [name for name in sdist_names(sdist) if name.endswith((".so", ".pyc"))] == []


@needs_dist
def test_the_wheel_has_the_package_the_engine_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    built = {name for name in names if name.startswith("minivault/engine/native/_native.")}
    assert [name for name in built if name.endswith(".so")] != []
    assert names - built == {name.removeprefix("src/") for name in tracked("src/minivault")} - built
    assert wheel.stat().st_size < MOST_BYTES


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, in an environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "run.txt")]
    subprocess.run([*pip, *locked], check=True, cwd=folder)
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True, cwd=folder)
    subprocess.run([str(python), "-m", "pip", "check"], check=True, cwd=folder)
    return python.with_name("minivault")


@pytest.fixture(scope="module")
def server(installed: Path) -> Iterator[Server]:
    running = Server(installed.parents[2] / "data", program=[str(installed)])
    yield running
    assert running.stop() == 0


@needs_dist
@pytest.mark.timeout(900)
def test_the_installed_program_answers(installed: Path, server: Server) -> None:
    ask = [str(installed), "generate", "What model are you?", "--seed", "7", "--url", server.url]
    answer = subprocess.run(ask, capture_output=True, text=True, cwd=installed.parents[2], check=True)
    assert "MiniVault" in answer.stdout


@needs_dist
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics"])
def test_the_installed_program_has_its_pages(server: Server, path: str) -> None:
    answer = httpx2.get(server.url + path, headers={"Accept": "text/html, */*"}, follow_redirects=True)
    assert (answer.status_code, len(answer.content) > 200) == (200, True)
