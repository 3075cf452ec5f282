"""The locks: every package pinned and hashed, nothing of one machine or one registry in them, and complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pinned(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", lock.read_text(), re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=;\[ ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_is_a_pin_or_a_hash(lock: Path) -> None:
    line = re.compile(r"([a-z0-9._-]+==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|#.*|)")
    assert [text for text in lock.read_text().splitlines() if not line.fullmatch(text)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_host_and_no_path_is_named(lock: Path) -> None:
    assert re.findall(r"https?:|file:|index-url|find-links|trusted-host", lock.read_text()) == []


@pytest.mark.parametrize(("lock", "extras"), [("run.txt", ()), ("test.txt", ("test",)), ("dev.txt", ("test", "dev"))])
def test_a_lock_has_all_that_the_package_needs(lock: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [item for extra in extras for item in project["optional-dependencies"][extra]]
    assert named(wanted) - pinned(ROOT / "requirements" / lock) == set()


def test_the_build_lock_has_all_that_the_build_needs() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert named(wanted) | {"cmake", "ninja"} <= pinned(ROOT / "requirements" / "build.txt")


def test_one_package_has_one_version() -> None:
    versions: dict[str, set[str]] = {}
    for lock in [lock for lock in LOCKS if lock.name != "clients.txt"]:  # of an environment of its own
        for line in re.findall(r"^([a-z0-9._-]+==.*?) \\", lock.read_text(), re.MULTILINE):
            # The marker belongs to it: numpy has one version for each range of Pythons.
            versions.setdefault(line.partition("==")[0], set()).add(line.partition("==")[2].partition(" ")[0])
    dev = (ROOT / "requirements" / "dev.txt").read_text()
    stray = {
        f"{name}=={version}"
        for name, found in versions.items()
        for version in found
        if f"\n{name}==" in dev and f"\n{name}=={version} " not in dev
    }
    assert stray == set()
